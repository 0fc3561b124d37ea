"""A registry of sessions with stand-ins around it: no sockets, no model in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson

from stream.config import Config
from stream.delivery.hub import Hub
from stream.feedback.recent import RecentUtterances
from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent, EventEncoder
from stream.protocol.messages import SessionConfig
from stream.quotas import Quotas
from stream.services import Services
from stream.sessions.registry import FINISH_S, SessionRegistry, new_session_id
from stream.sessions.session import Owner, Session
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.tenants import ANYONE, Principal
from tests.support.plugins import Fast


class FakeConnection(Owner):
    """Connection that records its events and closes, and that ends its session when it fails."""

    def __init__(self, registry: SessionRegistry, principal: Principal = ANYONE) -> None:
        self.owner: Owner = self
        self.principal = principal
        self.last_received = time.monotonic()
        self.session: Session | None = None
        self.events: list[dict[str, Any]] = []
        self.errors: list[ProtocolError] = []
        self.closes: list[str] = []
        self.reading = True
        self.hangs = False
        self.finish_s = 0.0
        """Time for the tail that `fail` was given."""
        self._registry = registry

    def event(self, event: EncodedEvent) -> None:
        self.events.append(orjson.loads(event.data))

    def error(self, error: ProtocolError) -> None:
        self.errors.append(error)

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def tick(self) -> None:
        pass

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        self.finish_s = finish_s
        if self.hangs:
            await asyncio.Event().wait()
        assert self.session is not None
        self.session.emit(error.body(), shared=False)
        await self._registry.finish(self.session, error.code, finish_s)
        await self.close(error.code)

    async def close(self, reason: str) -> None:
        self.closes.append(reason)


class FakeAuditLog(AuditLog):
    def __init__(self) -> None:
        super().__init__(None)
        self.records: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **details: Any) -> None:
        self.records.append((event, details))


class Sessions:
    """A registry with its services; its scheduler is not started unless one is given."""

    def __init__(
        self,
        scheduler: Scheduler | None = None,
        config: Config | None = None,
        hub: Hub | None = None,
        recent: RecentUtterances | None = None,
        **limits: Any,
    ) -> None:
        self.config = config or Config.model_validate({"limits": {"ahead_s": 1e9, **limits}})
        self.hub = hub or Hub()
        self.audit = FakeAuditLog()
        self.metrics = Metrics("test")
        self.scheduler = scheduler or Scheduler(ThreadEngine(Fast, 32), 0.0, 10.0)
        self.services = Services(
            self.config,
            Fast().info,
            self.scheduler,
            self.hub,
            self.metrics,
            self.audit,
            Quotas(self.config, self.metrics.quota_refused),
            recent,
        )
        self.registry = SessionRegistry(self.services)

    async def open(
        self,
        stream_id: str | None = None,
        takeover: bool = False,
        request: SessionConfig | None = None,
        principal: Principal = ANYONE,
    ) -> tuple[Session, FakeConnection]:
        connection = FakeConnection(self.registry, principal)
        session_id = new_session_id()
        session = await self.registry.open(
            request or SessionConfig(stream_id=stream_id),
            connection,
            EventEncoder(session_id, session_id),
            "test",
            takeover,
        )
        connection.session = session
        session.announce("session.created")
        return session, connection

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.registry.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
