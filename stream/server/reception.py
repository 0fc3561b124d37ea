"""Everybody who is connected: each upgraded socket gets who serves it, and the last word."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from stream.config import Config
from stream.delivery.hub import Hub
from stream.ingest.producer import Producer
from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import Query
from stream.recordings.job import RecordingServices
from stream.server.connection import RequestConnection
from stream.server.router import FILES, PRODUCE, SUBSCRIBE
from stream.server.subscriber import Subscriber
from stream.server.uploads import UploadHandler
from stream.sessions.registry import SessionRegistry
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics


class Dispatcher:
    """Serves the sockets of one process, from `open` until `draining` is set."""

    def __init__(self, config: Config, hub: Hub, metrics: Metrics, audit: AuditLog) -> None:
        self._config = config
        self._hub = hub
        self._metrics = metrics
        self._audit = audit
        self._sessions: SessionRegistry | None = None
        self._services: RecordingServices | None = None
        self._uploaders: set[UploadHandler] = set()
        self.subscribers: set[Subscriber] = set()
        self.draining = False

    def open(self, sessions: SessionRegistry, services: RecordingServices) -> None:
        """The model is loaded: from now on connections are served."""
        self._sessions, self._services = sessions, services

    def busy(self, path: str, query: Query) -> tuple[str, int] | None:
        """Why nobody more can come in on `path`, and when to ask again; None if they can."""
        if self._sessions is None:
            return "the model is loading", 2
        if self.draining:
            return "draining", 5
        if path == PRODUCE and self._sessions.full and "resume" not in query:
            return "overloaded: limits.max_sessions", 5
        if path == SUBSCRIBE and len(self.subscribers) >= self._config.limits.max_subscribers:
            return "overloaded: limits.max_subscribers", 5
        if path == FILES and len(self._uploaders) >= self._config.files.max_clients:
            return "overloaded: files.max_clients", 5
        return None

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection to its end."""
        request = socket.request
        if request is None or self._sessions is None or self._services is None:
            return
        url = urlsplit(request.path)
        if url.path == SUBSCRIBE:
            await self._subscriber(socket)
        elif url.path == FILES:
            await self._uploader(socket)
        else:
            producer = Producer(
                socket, self._config, self._services.model, self._sessions, self._metrics
            )
            await producer.run(parse_qs(url.query, keep_blank_values=True))

    async def dismiss(self, error: ProtocolError) -> None:
        """Tell subscribers and uploaders the reason and close; producers have had their drain."""
        leaving = [subscriber.leave(error) for subscriber in self.subscribers]
        leaving += [uploader.leave(error) for uploader in self._uploaders]
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _subscriber(self, socket: ServerConnection) -> None:
        limits = self._config.limits
        subscriber = Subscriber(socket, limits, self._hub, self._metrics, self._audit)
        self.subscribers.add(subscriber)
        try:
            await subscriber.run()
        finally:
            self.subscribers.discard(subscriber)

    async def _uploader(self, socket: ServerConnection) -> None:
        assert self._services is not None
        assert isinstance(socket, RequestConnection)
        uploader = UploadHandler(socket, self._services, socket.key_name)
        self._uploaders.add(uploader)
        try:
            await uploader.run()
        finally:
            self._uploaders.discard(uploader)
