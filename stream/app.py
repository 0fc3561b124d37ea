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
from stream.delivery.sink import Sink
from stream.delivery.sink_runner import keep_running
from stream.errors import ConfigError, ModelRefused
from stream.feedback.service import feedback_of
from stream.inference.engine import Engine
from stream.inference.scheduler import Scheduler
from stream.protocol.wire.mqtt import Info, Stats
from stream.quotas import Quotas
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
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
from stream.server.http.info import info
from stream.server.listener import Listener
from stream.server.process.descriptors import connection_limit, raise_limit
from stream.server.process.health import Health
from stream.server.process.lifecycle import Lifecycle
from stream.server.process.memory import FreedMemory
from stream.server.process.preload import preload
from stream.services import Services
from stream.sessions.registry import SessionRegistry, draining_error
from stream.sinks.mqtt.observer import mqtt_observer
from stream.sinks.mqtt.sink import MqttSink
from stream.sinks.webhook import WebhookSink
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.telemetry.progress import StartProgress
from stream.types import ModelInfo, from_ms

log = logging.getLogger(__name__)

SWEEP_S = 30.0

EXIT_CONFIG = 2
EXIT_MODEL = 3


class App:
    """One server process: a port, a model, a hub."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        recordings_engine: Callable[[ModelInfo], Engine | None] = lambda live: None,
    ) -> None:
        """Take the engine of live streams, and a function that returns that of recordings.

        The function gets the model of live streams; None means that recordings use it as well.
        """
        self._config = config
        self._recordings_engine = recordings_engine
        self._lifecycle = Lifecycle()
        self._metrics = Metrics(__version__)
        self._audit = AuditLog(config.privacy.audit_log)
        self._quotas = Quotas(config, self._metrics.quota_refused)
        self._authenticator = Authenticator(keys_of(config.auth), quotas=self._quotas)
        self._scheduler = self._scheduler_of(engine)
        self._recordings_scheduler = self._scheduler
        self._metrics.waiting.set_function(lambda: self._scheduler.waiting)
        self._metrics.busy.set_function(self._scheduler.busy_s)
        self._health = Health(config.model, self._lifecycle, self._scheduler, self._metrics)
        self._sinks: list[Sink] = []
        if config.mqtt.host:
            observer = mqtt_observer(self._metrics)
            self._sinks.append(
                MqttSink(
                    config.mqtt,
                    config.privacy,
                    config.server.name,
                    self._info,
                    self._stats,
                    observer,
                )
            )
        if config.alerts.webhooks:
            self._sinks.append(
                WebhookSink(
                    config.alerts.webhooks,
                    config.alerts.outbox,
                    config.server.name,
                    self._metrics.webhook,
                )
            )
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
        )
        self._listener = Listener(
            config.server,
            http.app(),
            self._router,
            config.limits.max_message_bytes,
            connection_limit(raise_limit(), config),
        )

    def _scheduler_of(self, engine: Engine) -> Scheduler:
        model = self._config.model
        return Scheduler(
            engine,
            model.max_wait_ms / 1000,
            model.hang_timeout_s,
            lambda done: self._metrics.batch(done.size, done.queued_s, done.inference_s),
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

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._listener.port

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status.

        Raises `ConfigError` and `ModelRefused`.
        """
        loop = asyncio.get_running_loop()
        preload()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        await self._listener.open()
        tasks = [
            asyncio.create_task(self._health.watch(), name="health"),
            asyncio.create_task(self._router.run(), name="router"),
            asyncio.create_task(FreedMemory(self._listener.count).run(), name="memory"),
        ]
        confinement = asyncio.create_task(self._log_confinement(), name="confinement")
        try:
            if await self._load(confinement):
                assert self._sessions is not None
                tasks.append(asyncio.create_task(self._sessions.run(), name="sessions"))
                # Only now: the broker must not receive "online" before scores are possible.
                failed = self._metrics.delivery_failed
                tasks += [
                    asyncio.create_task(keep_running(sink, failed), name="sink")
                    for sink in self._sinks
                ]
                if self._config.files.enabled:
                    tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
                await self._until_draining(tasks)
                await self._drain()
        finally:
            for task in (*tasks, confinement):
                task.cancel()
            await asyncio.gather(*tasks, confinement, return_exceptions=True)
            if self._audiosocket is not None:
                self._audiosocket.close()
            await self._listener.close()
            if self._jobs is not None:
                await self._jobs.services.settle()
            self._disk.close()
            self._feedback_disk.close()
            self._audit.close()
        log.info("stopped")
        if self._scheduler.alive or self._recordings_scheduler.alive:
            # A thread that still runs native code would abort the interpreter's normal exit.
            logging.shutdown()
            os._exit(0)
        return 0

    async def _until_draining(self, tasks: Sequence[asyncio.Task[None]]) -> None:
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

    async def _load(self, confinement: asyncio.Task[None]) -> bool:
        """Load and warm up the models, then serve; return False if a signal came first.

        Serves only after the task `confinement`.
        """
        model = await self._start(self._scheduler, self._config.model.name)
        if model is None:
            return False
        recordings = await self._load_for_recordings(model)
        if recordings is None:
            return False
        self._check_features(model, recordings)
        await confinement
        await self._serve(model, recordings)
        return True

    def _check_features(self, *models: ModelInfo) -> None:
        """Raise `ConfigError` if feedback is on and a model has no features to store."""
        for model in models:
            if self._config.feedback.enabled and not model.dim:
                raise ConfigError(
                    f"feedback.enabled: model {model.id} has no embeddings, so nothing could be "
                    "stored: choose another model, or turn feedback off"
                )

    async def _load_for_recordings(self, live: ModelInfo) -> ModelInfo | None:
        """Load the model of recordings; return the live one if they share it, None on a signal."""
        engine = self._recordings_engine(live) if self._config.files.enabled else None
        if engine is None:
            return live
        scheduler = self._scheduler_of(engine)
        try:
            model = await self._start(scheduler, "recordings")
        except ModelRefused as refusal:
            if self._config.model.recordings != "auto":
                raise
            log.warning("recordings use the live model", extra={"reason": str(refusal)})
            return live
        self._recordings_scheduler = scheduler
        self._health.add(scheduler)
        return model

    async def _start(self, scheduler: Scheduler, name: str) -> ModelInfo | None:
        """Load and warm up a model; return None if a signal came first."""
        lengths = [from_ms(ms) for ms in self._config.windows.lengths_ms or ()]
        loading = asyncio.ensure_future(scheduler.start(lengths))
        draining = asyncio.ensure_future(self._lifecycle.wait_draining())
        with StartProgress(name) as report:
            done: set[asyncio.Future[Any]] = set()
            while not done:
                done, _ = await asyncio.wait(
                    {loading, draining}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED
                )
                warm_up = scheduler.warm_up
                report.update(warm_up.shape, warm_up.done, warm_up.shapes)
        draining.cancel()
        if not loading.done():
            loading.cancel()
            return None
        try:
            return loading.result()
        except (ModelRefused, ConfigError):
            raise
        except Exception as error:
            # Any exception of a model's libraries becomes one line and an exit status.
            log.debug("model loading failed", exc_info=True)
            raise ModelRefused(
                f"model {name} cannot run: {type(error).__name__}: {error}"
            ) from error

    async def _serve(self, model: ModelInfo, recordings_model: ModelInfo) -> None:
        """Accept connections from now on."""
        config = self._config
        self._model, self._recordings_model = model, recordings_model
        self._metrics.model(model)
        services = Services(
            config,
            model,
            self._scheduler,
            self._hub,
            self._metrics,
            self._audit,
            self._quotas,
            None if self._feedback is None else self._feedback.recent,
            RuleBook(config.alerts.rules),
        )
        self._sessions = SessionRegistry(services)
        self._audiosocket = AudioSocketPort(services, self._sessions, self._listener.queue)
        shared = replace(services, model=recordings_model, scheduler=self._recordings_scheduler)
        queue = JobQueue(config.files.max_jobs, self._quotas.is_shared("recordings"))
        recordings = RecordingServices(shared, self._store, self._disk, queue)
        self._jobs = BackgroundJobs(recordings)
        self._router.routes.update(routes(services, self._sessions, self._jobs, self._router))
        await self._audiosocket.open()
        self._lifecycle.serve()
        scheme = "https" if config.server.tls_cert else "http"
        log.info(
            "ready",
            extra={
                "url": f"{scheme}://{config.server.host}:{self.port}/",
                "model": model.id,
                "why": model.why,
                **_other(model, recordings_model),
                "seconds": round(time.monotonic() - self._started, 2),
                "max_connections": self._listener.max_connections,
            },
        )
        if self._authenticator.open and not is_local(config.server):
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

    async def _drain(self) -> None:
        timeout = self._config.server.drain_timeout_s
        assert self._sessions is not None
        assert self._jobs is not None
        # The port stays open meanwhile, so that /readyz and new connections get a 503.
        await self._sessions.drain(timeout * 0.7)
        stopping = [sink.stop(timeout * 0.18) for sink in self._sinks]
        closing = [self._router.close(draining_error()), self._jobs.close(draining_error())]
        ending = [asyncio.ensure_future(end) for end in (*closing, *stopping)]
        # A sink that does not keep to its time must not keep the process.
        await asyncio.wait(ending, timeout=timeout * 0.2)
        for end in ending:
            end.cancel()
        for scheduler in {self._scheduler, self._recordings_scheduler}:
            await scheduler.stop(timeout * 0.1)

    async def _sweep(self) -> None:
        """Delete expired results every `SWEEP_S` seconds, more often if their lifetime is short."""
        pause_s = min(SWEEP_S, max(1.0, self._config.files.keep_hours * 360))
        while True:
            try:
                if self._jobs is not None:
                    self._jobs.sweep()
                await self._disk.run(self._store.sweep)
            except Exception as error:
                # A result that cannot be deleted must not end live streams.
                log.error("expired results not deleted", extra={"reason": str(error)})
            await asyncio.sleep(pause_s)

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
            "windows_waiting": self._scheduler.waiting,
            "uptime_s": round(time.monotonic() - self._started),
        }


def _other(model: ModelInfo, recordings: ModelInfo) -> dict[str, str]:
    """Return the log fields of the model of recordings, if it is another one."""
    if recordings is model:
        return {}
    return {"recordings_model": recordings.id, "recordings_why": recordings.why}
