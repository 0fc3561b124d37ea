"""All sessions of this process: opening, coming back, idling, draining."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from stream.admission import admit
from stream.config import Config
from stream.delivery.hub import Hub
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import SessionConfig
from stream.sessions.session import Session
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import ModelInfo

log = logging.getLogger(__name__)

TICK_S = 0.1
ACK_S = 1.0
KEPT = 64
"""This many ended sessions are held at most for producers whose connection broke at the end."""

FINISH_S = 5.0
"""How long the last windows of a stream may take before it ends without them."""


def new_session_id() -> str:
    return "ses_" + secrets.token_hex(12)


class Connection(Protocol):
    """What the register asks of a producer's connection."""

    last_heard: float

    async def refuse(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Tell the error, end the session within `finish_s` seconds, close."""
        ...

    async def leave(self, code: int, reason: str) -> None:
        """Close after everything said so far was sent."""
        ...


def draining() -> ProtocolError:
    return ProtocolError(
        "draining", "this server is going away; connect again in a moment", retry_after_s=1.0
    )


class SessionRegistry:
    """The register of sessions; also the clock that acknowledges, expires and idles them out."""

    def __init__(
        self,
        config: Config,
        model: ModelInfo,
        scheduler: Scheduler,
        hub: Hub,
        metrics: Metrics,
        audit: AuditLog,
    ) -> None:
        self._config = config
        self._model = model
        self._scheduler = scheduler
        self._hub = hub
        self._metrics = metrics
        self._audit = audit
        self._by_token: dict[str, Session] = {}
        self._connections: dict[Session, Connection] = {}
        self._parked: dict[Session, float] = {}
        self._told: dict[str, tuple[Session, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._by_token)

    @property
    def full(self) -> bool:
        return len(self) >= self._config.limits.max_sessions

    async def open(
        self,
        wanted: SessionConfig,
        connection: Connection,
        session_id: str,
        first_seq: int,
        takeover: bool,
    ) -> Session:
        """Grant and register a session. Raises `ProtocolError`."""
        if self.draining:
            raise draining()
        if self.full:
            raise ProtocolError(
                "overloaded",
                f"{len(self)} streams are all this server takes (limits.max_sessions)",
                retry_after_s=5.0,
            )
        admitted = admit(self._config, wanted, self._model)
        if wanted.stream_id is not None:
            # Whoever else waited for the id may have got it meanwhile: look again.
            while (holder := self._holder(wanted.stream_id)) is not None:
                await self._displace(holder, wanted.stream_id, takeover)
        session = Session(
            self._config,
            wanted,
            admitted,
            self._model,
            self._scheduler,
            self._hub,
            self._metrics,
            session_id,
            first_seq,
        )
        self._by_token[session.resume_token] = session
        self._connections[session] = connection
        live = session.live
        log.info("stream began", extra={"session_id": session.id, "roles": ",".join(live.roles)})
        self._audit.record(
            "session.start",
            session_id=session.id,
            roles=live.roles,
            analysed=[live.roles[c] for c in live.analysed],
            employee_basis=self._config.privacy.employee_basis,
            consent=wanted.consent.model_dump(),
        )
        return session

    def resume(self, token: str, connection: Connection) -> Session:
        """Hand a session to its returning producer. Raises `ProtocolError` unknown_stream."""
        session = self._by_token.get(token) or self._told.get(token, (None,))[0]
        if session is None:
            raise ProtocolError(
                "unknown_stream",
                "nothing is kept under this resume token (any more); start a new session",
                param="resume",
            )
        self._parked.pop(session, None)
        before = self._connections.get(session)
        if before is not None:
            self._spawn(before.leave(4409, "resumed elsewhere"))
        if not session.over.is_set():
            self._connections[session] = connection
        return session

    def owns(self, connection: Connection, session: Session) -> bool:
        """Whether the session has not been resumed on another connection."""
        return self._connections.get(session) is connection

    def keep(self, session: Session) -> None:
        """Hold an ended session's last events for a producer that may not have got them."""
        self._told[session.resume_token] = (session, time.monotonic())
        while len(self._told) > KEPT:
            self._told.pop(next(iter(self._told)))

    def lost(self, session: Session, connection: Connection) -> None:
        """The connection broke: keep the stream for its producer to come back."""
        if self._connections.get(session) is not connection:
            return
        del self._connections[session]
        session.send = None
        if self._config.limits.resume_s and not self.draining and not session.ended:
            self._parked[session] = time.monotonic()
        else:
            self._spawn(self.finish(session, "connection_lost"))

    async def finish(self, session: Session, reason: str, timeout_s: float = FINISH_S) -> None:
        """End a session and forget it."""
        self._parked.pop(session, None)
        await session.finish(reason, timeout_s)
        self._connections.pop(session, None)
        if self._by_token.pop(session.resume_token, None) is not None:
            log.info("stream ended", extra={"session_id": session.id, "reason": reason})
            self._audit.record("session.end", session_id=session.id, reason=reason)

    async def run(self) -> None:
        """Acknowledge audio once a second; end what idles, expires or does not come back."""
        acknowledged: dict[Session, float] = {}
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for session, connection in list(self._connections.items()):
                if session.ended:
                    continue
                if now - acknowledged.get(session, session.since) >= ACK_S:
                    acknowledged[session] = now
                    session.acknowledge()
                self._expire(session, connection, now)
            for session, since in list(self._parked.items()):
                if now - since > self._config.limits.resume_s:
                    self._spawn(self.finish(session, "connection_lost"))
            for token, (_, since) in list(self._told.items()):
                if now - since > self._config.limits.resume_s:
                    del self._told[token]
            for session in [s for s in acknowledged if s not in self._connections]:
                del acknowledged[session]

    async def drain(self, timeout_s: float) -> None:
        """Score the tails, tell the clients, close; all at once, within `timeout_s`."""
        self.draining = True
        finish_s = timeout_s * 0.6
        waiting = [c.refuse(draining(), finish_s) for c in list(self._connections.values())]
        waiting += [self.finish(s, "draining", finish_s) for s in list(self._parked)]
        done = asyncio.gather(*waiting, *self._tasks, return_exceptions=True)
        try:
            await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            log.warning("drain timed out", extra={"sessions": len(self)})

    def _holder(self, stream_id: str) -> Session | None:
        live = self._hub.streams.get(stream_id)
        return next((s for s in self._by_token.values() if s.live is live), None)

    async def _displace(self, session: Session, stream_id: str, takeover: bool) -> None:
        """End the session that has the id, if it may be ended. Raises `ProtocolError`."""
        connection = self._connections.get(session)
        if connection is not None and not takeover:
            raise ProtocolError(
                "stream_conflict",
                f"stream_id {stream_id!r} is live on another connection; choose another, or "
                "connect with takeover=true",
                param="stream_id",
            )
        error = ProtocolError("stream_conflict", "another connection took stream_id over")
        if connection is not None:
            session.emit(error.body(), shared=False)
        await self.finish(session, "taken_over", FINISH_S / 2)
        if connection is not None:
            self._spawn(connection.leave(error.close_code, error.code))

    def _expire(self, session: Session, connection: Connection, now: float) -> None:
        limits = self._config.limits
        if now - connection.last_heard > limits.idle_timeout_s:
            error = ProtocolError(
                "idle_timeout",
                f"nothing came for {limits.idle_timeout_s:g} s; send keepalive while there is "
                "no audio",
            )
            # This is also how a network that went away in silence looks: the producer may be back.
            session.emit(error.body(), shared=False)
            self._metrics.refused(error.code)
            self._spawn(connection.leave(error.close_code, error.code))
            self.lost(session, connection)
        elif now - session.since > limits.max_session_s:
            error = ProtocolError(
                "session_expired", f"a session lasts at most {limits.max_session_s:g} s"
            )
            self._spawn(connection.refuse(error))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
