"""All endpoints of a server in this process: keys, gate, router, HTTP application; no sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self, cast

import httpx2
import orjson
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.config import Config
from stream.feedback.service import feedback_of
from stream.history.configured import history_of
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
from stream.server.access.auth import Authenticator, keys_of
from stream.server.access.gate import Gate
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.websocket import WebSocketConnection
from stream.server.endpoints.router import Router
from stream.server.endpoints.routes import paths, recordings_busy, routes
from stream.server.http.application import Http
from stream.server.http.feedback_requests import FeedbackRequests
from stream.server.http.file_requests import FileRequests
from stream.server.http.history_requests import HistoryRequests
from stream.server.process.lifecycle import Lifecycle
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.transport import FakeTransport


class InProcess:
    """The endpoints with their sessions and recordings; `secrets` has the keys by name."""

    def __init__(self, config: Config, secrets: Mapping[str, str]) -> None:
        self.config = config
        self.secrets = secrets
        self.feedback = feedback_of(config.feedback)
        recent = None if self.feedback is None else self.feedback.recent
        self.sessions = Sessions(config=config, recent=recent)
        services = self.sessions.services
        self.authenticator = Authenticator(keys_of(config.auth), quotas=services.quotas)
        lifecycle = Lifecycle()
        lifecycle.serve()
        gate = Gate(
            config.server, self.authenticator, services.metrics, paths(config), services.quotas
        )
        self.router = Router(gate, lifecycle, services.quotas)
        self.store = ResultStore(config.files.folder, 3600)
        self.disk = DiskExecutor()
        self.jobs = BackgroundJobs(RecordingServices(services, self.store, self.disk, JobQueue(2)))
        self.router.routes |= routes(services, self.sessions.registry, self.jobs, self.router)
        files = FileRequests(
            config,
            lifecycle,
            services.metrics,
            lambda: self.jobs,
            lambda principal: recordings_busy(
                config.files, self.router, self.jobs, services.quotas, principal
            ),
            services.quotas,
        )
        feedback = FeedbackRequests(
            config.feedback, self.feedback, self.store, self.sessions.audit, self.disk
        )
        self.history = history_of(config, services.metrics, self.sessions.audit)
        history = HistoryRequests(self.history, self.sessions.audit, config.auth.tenants)
        http = Http(
            gate,
            {},
            self.sessions.hub,
            services.metrics.text,
            self.store,
            4,
            files,
            feedback=feedback,
            history=history,
        )
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(http.app()), base_url="http://localhost"
        )

    def connect(self, path: str, key: str = "", *protocols: str) -> Peer:
        """Open a WebSocket."""
        return Peer(self, path, key, *protocols)

    async def request(self, key: str, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send an HTTP request with a key, or with none."""
        headers = {"Authorization": f"Bearer {self.secrets[key]}"} if key else {}
        return await self._client.request(method, path, headers=headers, **options)

    def audited(self, event: str) -> list[dict[str, Any]]:
        """Return the details of an event's records in the audit log."""
        return [details for name, details in self.sessions.audit.records if name == event]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run the sessions and the model for the duration of the block, then close everything."""
        await self.sessions.scheduler.start(LENGTHS)
        if self.history is not None:
            self.history.open()
        try:
            async with self.sessions.running():
                yield self
        finally:
            await self.sessions.registry.drain(2.0)
            await self.sessions.scheduler.stop(2.0)
            await self._client.aclose()
            self.disk.close()
            if self.history is not None:
                await self.history.sink.stop(2.0)
                self.history.close()


class Peer(FakeTransport):
    """The client's end of a WebSocket."""

    def __init__(self, server: InProcess, path: str, key: str, *protocols: str) -> None:
        super().__init__()
        self.max_bytes = 0
        self.silent_s = 0.0
        self.queue = FairQueue()
        self.usage = self.queue.usage()
        self.meter: Callable[[int], float] = lambda size: 0.0
        headers = [("Host", "localhost"), ("Sec-WebSocket-Protocol", ", ".join(protocols))]
        if key:
            headers.append(("Authorization", f"Bearer {server.secrets[key]}"))
        connection = cast(WebSocketConnection, self)
        made = server.router.upgrade(connection, Request(path, Headers(headers)))
        self.refusal = made if isinstance(made, Response) else None
        if not isinstance(made, Response):
            server.router.connections.add(connection)
            self.handler = made()

    def tick(self) -> None: ...

    def say(self, event_type: str, **fields: Any) -> None:
        """Send a message."""
        self.handler.received(orjson.dumps({"type": event_type, **fields}).decode())

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(message) for message in self.sent]

    async def event(self, event_type: str) -> dict[str, Any]:
        """Wait for the first event of a type; return it."""
        await until(lambda: event_type in [event["type"] for event in self.events])
        return next(event for event in self.events if event["type"] == event_type)
