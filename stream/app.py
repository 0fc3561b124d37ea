"""Composition and life cycle of the server process: listen, load, warm up, serve, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from stream import __version__
from stream.alerts.book import RuleBook
from stream.audio.confinement.report import log_levels
from stream.config import Config
from stream.delivery.group_sink import GroupSink
from stream.delivery.hub import Hub
from stream.delivery.sink_runner import keep_running
from stream.feedback.service import feedback_of
from stream.history.configured import history_of
from stream.inference.engine import Engine
from stream.inference.models import Models
from stream.protocol.wire.mqtt import Info, Stats
from stream.quotas import Quotas
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
from stream.recordings.sweep import keep_swept
from stream.server.access.auth import Authenticator, keys_of
from stream.server.access.gate import Gate
from stream.server.access.origins import is_local
from stream.server.endpoints.router import Router
from stream.server.endpoints.routes import paths, recordings_busy, routes
from stream.server.endpoints.subscriber import Subscriber
from stream.server.endpoints.telephony import AudioSocketPort
from stream.server.http.application import Http
from stream.server.http.feedback_requests import FeedbackRequests
from stream.server.http.file_requests import FileRequests
from stream.server.http.group_metrics import GroupCollector
from stream.server.http.history_requests import HistoryRequests
from stream.server.http.info import info
from stream.server.listener import Listener
from stream.server.process.descriptors import connection_limit, raise_limit
from stream.server.process.health import Health
from stream.server.process.lifecycle import Lifecycle
from stream.server.process.memory import FreedMemory
from stream.server.process.preload import preload
from stream.services import Services
from stream.sessions.registry import SessionRegistry, draining_error
from stream.sinks.configured import configured_sinks
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import ModelInfo

log = logging.getLogger(__name__)


class App:
    """One server process: a port, a model, a hub."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        recordings_engine: Callable[[ModelInfo], Engine | None] = lambda live: None,
    ) -> None:
        """Take the engine of live streams, and a function that returns that of recordings.

        See `Models`.
        """
        self._config = config
        self._lifecycle = Lifecycle()
        self._metrics = Metrics(__version__)
        self._audit = AuditLog(config.privacy.audit_log)
        self._quotas = Quotas(config, self._metrics.quota_refused)
        self._authenticator = Authenticator(keys_of(config.auth), quotas=self._quotas)
        self._models = Models(
            config,
            engine,
            recordings_engine,
            lambda done: self._metrics.batch(done.size, done.queued_s, done.inference_s),
        )
        live = self._models.live
        self._metrics.waiting.set_function(lambda: live.waiting)
        self._metrics.busy.set_function(live.busy_s)
        self._health = Health(config.model, self._lifecycle, live, self._metrics)
        self._sinks = configured_sinks(config, self._metrics, self._info, self._stats)
        self._history = history_of(config, self._metrics, self._audit)
        if self._history is not None:
            self._sinks.append(self._history.sink)
        groups = GroupSink(config.privacy.min_group)
        self._metrics.registry.register(GroupCollector(groups, config.metrics.groups))
        self._hub = Hub([groups, *self._sinks], self._metrics.delivery_failed)
        self._model: ModelInfo | None = None
        self._recordings_model: ModelInfo | None = None
        self._sessions: SessionRegistry | None = None
        self._audiosocket: AudioSocketPort | None = None
        self._jobs: BackgroundJobs | None = None
        self._disk = DiskExecutor()
        self._feedback_disk = DiskExecutor()
        """Its own thread, so that an export does not delay results."""
        self._store = ResultStore(config.files.folder, config.files.keep_hours * 3600)
        self._feedback = feedback_of(config.feedback)
        self._started = time.monotonic()
        gate = Gate(
            config.server,
            self._authenticator,
            self._metrics,
            paths(config),
            self._quotas,
        )
        self._router = Router(gate, self._lifecycle, self._quotas)
        documents = {
            "/readyz": self._health.readiness,
            "/v1/info": lambda: (HTTPStatus.OK, self._info()),
        }
        files = config.files
        http = Http(
            gate,
            documents,
            self._hub,
            self._metrics.text,
            self._store if files.enabled else None,
            files.max_downloads,
            self._file_requests() if files.enabled else None,
            groups.list,
            feedback=self._feedback_requests(),
            history=HistoryRequests(self._history, self._audit, config.auth.tenants),
        )
        self._listener = Listener(
            config.server,
            http.app(),
            self._router,
            config.limits.max_message_bytes,
            connection_limit(raise_limit(), config),
        )

    def _file_requests(self) -> FileRequests:
        return FileRequests(
            self._config,
            self._lifecycle,
            self._metrics,
            lambda: self._jobs,
            lambda principal: recordings_busy(
                self._config.files, self._router, self._jobs, self._quotas, principal
            ),
            self._quotas,
        )

    def _feedback_requests(self) -> FeedbackRequests:
        return FeedbackRequests(
            self._config.feedback,
            self._feedback,
            self._store,
            self._audit,
            self._feedback_disk,
        )

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status.

        Raises `ConfigError` and `ModelRefused`.
        """
        loop = asyncio.get_running_loop()
        preload()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self._history is not None:
            await asyncio.to_thread(self._history.open)
        await self._listener.open()
        tasks = [
            asyncio.create_task(self._health.watch(), name="health"),
            asyncio.create_task(self._router.run(), name="router"),
            asyncio.create_task(FreedMemory(self._listener.count).run(), name="memory"),
        ]
        loading = asyncio.create_task(self._models.load(), name="models")
        confinement = asyncio.create_task(self._log_confinement(), name="confinement")
        try:
            await self._until_draining([loading])
            if loading.done():
                await confinement
                sessions, jobs = await self._serve(*loading.result())
                tasks.append(asyncio.create_task(sessions.run(), name="sessions"))
                # Only now: the broker must not receive "online" before scores are possible.
                failed = self._metrics.delivery_failed
                tasks += [
                    asyncio.create_task(keep_running(sink, failed), name="sink")
                    for sink in self._sinks
                ]
                if self._config.files.enabled:
                    tasks.append(asyncio.create_task(keep_swept(jobs), name="sweep"))
                await self._until_draining(tasks)
                await self._drain(sessions, jobs)
        finally:
            for task in (*tasks, loading, confinement):
                task.cancel()
            await asyncio.gather(*tasks, loading, confinement, return_exceptions=True)
            if self._audiosocket is not None:
                self._audiosocket.close()
            await self._listener.close()
            if self._jobs is not None:
                await self._jobs.services.settle()
            self._disk.close()
            self._feedback_disk.close()
            if self._history is not None:
                self._history.close()
            self._audit.close()
        log.info("stopped")
        if self._models.alive:
            # A thread that still runs native code would abort the interpreter's normal exit.
            logging.shutdown()
            os._exit(0)
        return 0

    async def _until_draining(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Wait for a signal; if a task fails before it, raise the task's exception.

        Sinks are isolated: one that ends or fails ends nothing else.
        """
        draining = asyncio.create_task(self._lifecycle.wait_draining())
        running = {task for task in tasks if task.get_name() not in ("sink", "memory")}
        done, _ = await asyncio.wait({draining, *running}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        for task in done - {draining}:
            await task

    async def _log_confinement(self) -> None:
        """Log how uploads are confined, while the model is loaded."""
        if self._config.files.enabled:
            await asyncio.to_thread(log_levels)

    async def _serve(
        self, model: ModelInfo, recordings_model: ModelInfo
    ) -> tuple[SessionRegistry, BackgroundJobs]:
        """Accept connections from now on, with models that are loaded."""
        config, models = self._config, self._models
        if models.recordings is not models.live:
            self._health.add(models.recordings)
        self._model, self._recordings_model = model, recordings_model
        self._metrics.model(model)
        services = Services(
            config,
            model,
            models.live,
            self._hub,
            self._metrics,
            self._audit,
            self._quotas,
            None if self._feedback is None else self._feedback.recent,
            RuleBook(config.alerts.rules),
        )
        self._sessions = SessionRegistry(services)
        self._audiosocket = AudioSocketPort(services, self._sessions, self._listener.queue)
        shared = replace(services, model=recordings_model, scheduler=models.recordings)
        queue = JobQueue(config.files.max_jobs, self._quotas.is_shared("recordings"))
        recordings = RecordingServices(shared, self._store, self._disk, queue)
        if self._history is not None:
            recordings = replace(recordings, finished=self._history.recorded)
        self._jobs = BackgroundJobs(recordings)
        self._router.routes.update(routes(services, self._sessions, self._jobs, self._router))
        await self._audiosocket.open()
        self._lifecycle.serve()
        self._log_ready(model, recordings_model)
        return self._sessions, self._jobs

    def _log_ready(self, model: ModelInfo, recordings_model: ModelInfo) -> None:
        server = self._config.server
        scheme = "https" if server.tls_cert else "http"
        log.info(
            "ready",
            extra={
                "url": f"{scheme}://{server.host}:{self._listener.port}/",
                "model": model.id,
                "why": model.why,
                **_other(model, recordings_model),
                "seconds": round(time.monotonic() - self._started, 2),
                "max_connections": self._listener.max_connections,
            },
        )
        if self._authenticator.open and not is_local(server):
            log.warning(
                "no keys configured: every client that reaches this port may stream and subscribe; "
                "see docs/operations.md"
            )

    def _on_signal(self) -> None:
        if self._lifecycle.draining:
            log.warning("second signal; exiting now")
            os._exit(130)
        log.info("draining")
        self._lifecycle.drain()

    async def _drain(self, sessions: SessionRegistry, jobs: BackgroundJobs) -> None:
        timeout = self._config.server.drain_timeout_s
        # The port stays open meanwhile, so that /readyz and new connections get a 503.
        await sessions.drain(timeout * 0.7)
        stopping = [sink.stop(timeout * 0.18) for sink in self._sinks]
        closing = [self._router.close(draining_error()), jobs.close(draining_error())]
        ending = [asyncio.ensure_future(end) for end in (*closing, *stopping)]
        # A sink that does not keep to its time must not keep the process.
        await asyncio.wait(ending, timeout=timeout * 0.2)
        for end in ending:
            end.cancel()
        await self._models.stop(timeout * 0.1)

    def _info(self) -> Info:
        return info(
            self._config,
            self._model,
            self._recordings_model,
            login=not self._authenticator.open,
        )

    def _stats(self) -> Stats:
        return {
            "sessions": len(self._sessions) - self._sessions.parked if self._sessions else 0,
            "parked": self._sessions.parked if self._sessions else 0,
            "subscribers": self._router.count(Subscriber),
            "windows_waiting": self._models.live.waiting,
            "uptime_s": round(time.monotonic() - self._started),
        }


def _other(model: ModelInfo, recordings: ModelInfo) -> dict[str, str]:
    """Return the log fields of the model of recordings, if it is another one."""
    if recordings is model:
        return {}
    return {"recordings_model": recordings.id, "recordings_why": recordings.why}
