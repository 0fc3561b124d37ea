"""Composition and life cycle of the server process: listen, load, warm up, serve, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from stream import __version__
from stream.backends.base import Backend
from stream.config import Config
from stream.delivery.hub import Hub
from stream.delivery.sink import Sink
from stream.errors import ConfigError, ModelRefused
from stream.inference.scheduler import Scheduler
from stream.protocol.version import SUBPROTOCOL
from stream.recordings.disk import DiskExecutor
from stream.recordings.job import RecordingServices
from stream.recordings.job_queue import JobQueue
from stream.recordings.store import ResultStore
from stream.server.auth import Authenticator, Key
from stream.server.connection import RequestConnection
from stream.server.dispatcher import Dispatcher
from stream.server.downloads import Downloads
from stream.server.info import info
from stream.server.pages import Pages
from stream.server.router import Router, is_local, tls_context
from stream.sessions.registry import SessionRegistry, draining_error
from stream.sinks.mqtt import MqttSink, mqtt_observer
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.telemetry.progress import StartProgress
from stream.types import Body, ModelInfo, from_ms

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.25
SWEEP_S = 30.0

EXIT_CONFIG = 2
EXIT_MODEL = 3
EXIT_HANG = 70


class App:
    """One server process: a port, a model, a hub."""

    def __init__(self, config: Config, load: Callable[[], Backend]) -> None:
        self._config = config
        self._node = config.server.name
        self._metrics = Metrics(__version__)
        self._audit = AuditLog(config.privacy.audit_log)
        self._authenticator = Authenticator(
            Key(name, key.sha256, frozenset(key.scopes)) for name, key in config.auth.keys.items()
        )
        self._scheduler = Scheduler(
            load,
            config.model.max_batch,
            config.model.max_wait_ms / 1000,
            config.model.hang_timeout_s,
            lambda done: self._metrics.batch(done.size, done.queued_s, done.inference_s),
        )
        self._metrics.waiting.set_function(lambda: self._scheduler.waiting)
        self._metrics.busy.set_function(self._scheduler.busy_s)
        self._sinks: list[Sink] = []
        if config.mqtt.host:
            self._sinks.append(
                MqttSink(
                    config.mqtt,
                    config.privacy,
                    self._node,
                    self._info,
                    self._stats,
                    mqtt_observer(self._metrics),
                )
            )
        self._hub = Hub(self._sinks, self._metrics.delivery_failed)
        self._model: ModelInfo | None = None
        self._sessions: SessionRegistry | None = None
        self._dispatcher = Dispatcher(config, self._hub, self._metrics, self._audit)
        self._disk = DiskExecutor()
        self._store = ResultStore(config.files.folder, config.files.keep_hours * 3600)
        self._stopping = asyncio.Event()
        self._started = time.monotonic()
        pages = Pages(
            {
                "/readyz": self._readyz,
                "/v1/info": lambda: (HTTPStatus.OK, self._info()),
                "/v1/streams": lambda: (
                    HTTPStatus.OK,
                    {"streams": [s.snapshot() for s in self._hub.streams.values()]},
                ),
            },
            self._hub.streams.get,
            self._metrics.text,
        )
        downloads = Downloads(self._store, config.files.max_downloads)
        self._router = Router(
            config.server,
            self._authenticator,
            pages,
            downloads if config.files.enabled else None,
            self._metrics,
            self._dispatcher.capacity,
        )
        self.port = config.server.port

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status.

        Raises `ConfigError` and `ModelRefused`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        server = await self._listen()
        tasks = [asyncio.create_task(self._heartbeat(), name="heartbeat")]
        try:
            if await self._load():
                assert self._sessions is not None
                tasks.append(asyncio.create_task(self._sessions.run(), name="sessions"))
                # Only now: the broker must not receive "online" before scores are possible.
                tasks += [asyncio.create_task(sink.run(), name="sink") for sink in self._sinks]
                if self._config.files.enabled:
                    tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
                await self._until_stopped(tasks)
                await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.close(close_connections=True)
            self._disk.close()
            self._audit.close()
        log.info("stopped")
        if self._scheduler.alive:
            # A thread that still runs native code would abort the interpreter's normal exit.
            logging.shutdown()
            os._exit(0)
        return 0

    async def _until_stopped(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for a signal; if a task fails before it, raise the task's exception."""
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            await task

    async def _listen(self) -> WebSocketServer:
        config, limits = self._config.server, self._config.limits
        try:
            server = await serve(
                self._dispatcher.serve,
                config.host,
                config.port,
                ssl=tls_context(config.tls_cert, config.tls_key),
                process_request=self._router.route,
                select_subprotocol=_subprotocol,
                create_connection=RequestConnection,
                # No limit here, because downloads may be long; `RequestConnection` limits requests.
                open_timeout=None,
                compression=None,
                # Above the protocol's limit, which is reported by an error event before the close.
                max_size=4 * limits.max_message_bytes,
                # `Subscriber` sends its own pings. The pong of a throttled producer is delayed
                # behind its audio; a dead producer is detected by the idle timeout.
                ping_timeout=None,
                close_timeout=5,
                server_header=None,
            )
        except OSError as error:
            raise ConfigError(
                f"server.port: cannot listen on {config.host}:{config.port}: "
                f"{error.strerror or error}; is another server running? choose another --port"
            ) from None
        self.port = next(iter(server.sockets)).getsockname()[1]
        return server

    async def _load(self) -> bool:
        """Load and warm up the model; return False if a signal came first."""
        lengths = [from_ms(ms) for ms in self._config.windows.lengths_ms]
        loading = asyncio.ensure_future(self._scheduler.start(lengths))
        stopping = asyncio.ensure_future(self._stopping.wait())
        with StartProgress(self._config.model.name) as report:
            done: set[asyncio.Future[Any]] = set()
            while not done:
                done, _ = await asyncio.wait(
                    {loading, stopping}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED
                )
                warm_up = self._scheduler.warm_up
                report.update(warm_up.shape, warm_up.done, warm_up.shapes)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            return False
        try:
            self._model = model = loading.result()
        except (ModelRefused, ConfigError):
            raise
        except Exception as error:
            # Any exception of a model's libraries becomes one line and an exit status.
            log.debug("model loading failed", exc_info=True)
            raise ModelRefused(
                f"model {self._config.model.name} cannot run: {type(error).__name__}: {error}"
            ) from error
        self._metrics.model(model)
        self._sessions = SessionRegistry(
            self._config, model, self._scheduler, self._hub, self._metrics, self._audit
        )
        services = RecordingServices(
            self._config,
            model,
            self._scheduler,
            self._metrics,
            self._audit,
            self._store,
            self._disk,
            JobQueue(self._config.files.max_jobs),
        )
        self._dispatcher.open(self._sessions, services)
        scheme = "https" if self._config.server.tls_cert else "http"
        log.info(
            "ready",
            extra={
                "url": f"{scheme}://{self._config.server.host}:{self.port}/",
                "model": model.id,
                "why": model.why,
                "seconds": round(time.monotonic() - self._started, 2),
            },
        )
        if self._authenticator.open and not is_local(self._config.server):
            log.warning(
                "no keys configured: every client that reaches this port may stream and subscribe; "
                "see docs/operations.md"
            )
        return True

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            log.warning("second signal; exiting now")
            os._exit(130)
        log.info("draining")
        self._dispatcher.draining = True
        self._stopping.set()

    async def _drain(self) -> None:
        timeout = self._config.server.drain_timeout_s
        assert self._sessions is not None
        # The port stays open meanwhile, so that /readyz and new connections get a 503.
        await self._sessions.drain(timeout * 0.7)
        stopping = [sink.stop(timeout * 0.2) for sink in self._sinks]
        closing = self._dispatcher.close(draining_error())
        await asyncio.gather(closing, *stopping, return_exceptions=True)
        await self._scheduler.stop(timeout * 0.1)

    async def _heartbeat(self) -> None:
        """Measure the event loop's lag; exit the process if inference hangs for too long."""
        while True:
            due = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
            self._scheduler.watch()
            if self._scheduler.busy_s() > self._config.model.exit_after_hang_s:
                log.critical(
                    "inference hung; exiting for restart",
                    extra={"limit_s": self._config.model.exit_after_hang_s},
                )
                os._exit(EXIT_HANG)

    async def _sweep(self) -> None:
        """Delete expired results every `SWEEP_S` seconds, more often if their lifetime is short."""
        pause_s = min(SWEEP_S, max(1.0, self._config.files.keep_hours * 360))
        while True:
            try:
                await self._disk.run(self._store.sweep)
            except OSError as error:
                # A result that cannot be deleted must not end live streams.
                log.error("expired results not deleted", extra={"reason": str(error)})
            await asyncio.sleep(pause_s)

    def _readyz(self) -> tuple[HTTPStatus, Any]:
        model: str
        if self._model is None:
            model = f"warming up, {self._scheduler.warm_up.share:.0%}"
        else:
            model = self._scheduler.trouble or "ok"
        checks = {"model": model, "draining": self._stopping.is_set()}
        ready = model == "ok" and not self._stopping.is_set()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, {"ready": ready, "checks": checks}

    def _info(self) -> Body:
        return info(self._config, self._model, login=not self._authenticator.open)

    def _stats(self) -> dict[str, Any]:
        return {
            "sessions": len(self._sessions) if self._sessions else 0,
            "subscribers": len(self._dispatcher.subscribers),
            "windows_waiting": self._scheduler.waiting,
            "uptime_s": round(time.monotonic() - self._started),
        }


def _subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Select `emotide.v1` if the client offers it; a client may also offer none."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
