"""Dispatcher of upgraded WebSockets: creates their handlers and closes them on shutdown."""

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
    """Serves the WebSockets of one process; accepts them from `open` until `draining` is set."""

    def __init__(self, config: Config, hub: Hub, metrics: Metrics, audit: AuditLog) -> None:
        self._config = config
        self._hub = hub
        self._metrics = metrics
        self._audit = audit
        self._sessions: SessionRegistry | None = None
        self._services: RecordingServices | None = None
        self._uploads: set[UploadHandler] = set()
        self.subscribers: set[Subscriber] = set()
        self.draining = False

    def open(self, sessions: SessionRegistry, services: RecordingServices) -> None:
        """Accept connections from now on, because the model is loaded."""
        self._sessions, self._services = sessions, services

    def capacity(self, path: str, query: Query) -> tuple[str, int] | None:
        """Return (reason, retry-after seconds) if `path` accepts no connection now, else None."""
        if self._sessions is None:
            return "the model is loading", 2
        if self.draining:
            return "draining", 5
        if path == PRODUCE and self._sessions.full and "resume" not in query:
            return "overloaded: limits.max_sessions", 5
        if path == SUBSCRIBE and len(self.subscribers) >= self._config.limits.max_subscribers:
            return "overloaded: limits.max_subscribers", 5
        if path == FILES and len(self._uploads) >= self._config.files.max_clients:
            return "overloaded: files.max_clients", 5
        return None

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one connection until it ends."""
        request = socket.request
        if request is None or self._sessions is None or self._services is None:
            return
        url = urlsplit(request.path)
        if url.path == SUBSCRIBE:
            await self._serve_subscriber(socket)
        elif url.path == FILES:
            await self._serve_uploads(socket)
        else:
            producer = Producer(
                socket, self._config, self._services.model, self._sessions, self._metrics
            )
            await producer.run(parse_qs(url.query, keep_blank_values=True))

    async def close(self, error: ProtocolError) -> None:
        """Send `error` to subscribers and uploaders and close; the registry drains producers."""
        closing = [subscriber.close(error) for subscriber in self.subscribers]
        closing += [handler.close(error) for handler in self._uploads]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _serve_subscriber(self, socket: ServerConnection) -> None:
        limits = self._config.limits
        subscriber = Subscriber(socket, limits, self._hub, self._metrics, self._audit)
        self.subscribers.add(subscriber)
        try:
            await subscriber.run()
        finally:
            self.subscribers.discard(subscriber)

    async def _serve_uploads(self, socket: ServerConnection) -> None:
        assert self._services is not None
        assert isinstance(socket, RequestConnection)
        handler = UploadHandler(socket, self._services, socket.key_name)
        self._uploads.add(handler)
        try:
            await handler.run()
        finally:
            self._uploads.discard(handler)
