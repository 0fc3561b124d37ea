"""Registry of all sessions of this process: open, reattach, expire, drain."""

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
MAX_ENDED = 64
"""Maximum number of ended sessions kept for producers that may have missed the last events."""

FINISH_S = 5.0
"""Time for the last windows of a stream; after it the session ends without them."""


def new_session_id() -> str:
    """Return a random session id."""
    return "ses_" + secrets.token_hex(12)


class Connection(Protocol):
    """Connection of a producer, as the registry uses it.

    `last_received` is the arrival time of its newest message (monotonic seconds).
    """

    last_received: float

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Send the error, end the session within `finish_s` seconds, close."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close after all queued events were sent."""
        ...


def draining_error() -> ProtocolError:
    """Return the error for clients of a server that shuts down."""
    return ProtocolError(
        "draining", "this server is shutting down; connect again in a moment", retry_after_s=1.0
    )


class SessionRegistry:
    """Registry of sessions; `run` also sends acknowledgements and applies the time limits."""

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
        self._detached: dict[Session, float] = {}
        """Detached sessions and since when (monotonic seconds)."""
        self._ended: dict[str, tuple[Session, float]] = {}
        """Ended sessions by resume token, and since when (monotonic seconds)."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._by_token)

    @property
    def full(self) -> bool:
        """True if `limits.max_sessions` is reached."""
        return len(self) >= self._config.limits.max_sessions

    async def open(
        self,
        request: SessionConfig,
        connection: Connection,
        session_id: str,
        first_seq: int,
        takeover: bool,
    ) -> Session:
        """Grant and register a session. Raises `ProtocolError`."""
        if self.draining:
            raise draining_error()
        if self.full:
            raise ProtocolError(
                "overloaded",
                f"the server is at its limit of {len(self)} streams (limits.max_sessions); try "
                "again later",
                retry_after_s=5.0,
            )
        grant = admit(self._config, request, self._model)
        if request.stream_id is not None:
            # Another connection may get the id while this one waits, so check again.
            while (holder := self._find(request.stream_id)) is not None:
                await self._take_over(holder, request.stream_id, takeover)
        session = Session(
            self._config,
            request,
            grant,
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
        log.info("stream started", extra={"session_id": session.id, "roles": ",".join(live.roles)})
        self._audit.record(
            "session.start",
            session_id=session.id,
            roles=live.roles,
            analysed=[live.roles[c] for c in live.analysed],
            employee_basis=self._config.privacy.employee_basis,
            consent=request.consent.model_dump(),
        )
        return session

    def reattach(self, token: str, connection: Connection) -> Session:
        """Attach a session to the new connection of its producer.

        The connection that it was attached to is closed with 4409. Raises `ProtocolError`
        (unknown_stream).
        """
        session = self._by_token.get(token) or self._ended.get(token, (None,))[0]
        if session is None:
            raise ProtocolError(
                "unknown_stream",
                "unknown or expired resume token; start a new session",
                param="resume",
            )
        self._detached.pop(session, None)
        previous = self._connections.get(session)
        if previous is not None:
            self._spawn(previous.close(4409, "resumed elsewhere"))
        if not session.closed.is_set():
            self._connections[session] = connection
        return session

    def is_attached(self, session: Session, connection: Connection) -> bool:
        """Return whether the session is attached to this connection, and not to a newer one."""
        return self._connections.get(session) is connection

    def keep_ended(self, session: Session) -> None:
        """Keep an ended session for a producer that may not have received its last events."""
        self._ended[session.resume_token] = (session, time.monotonic())
        while len(self._ended) > MAX_ENDED:
            self._ended.pop(next(iter(self._ended)))

    def detach(self, session: Session, connection: Connection) -> None:
        """Keep the session of a broken connection so that its producer can reattach."""
        if self._connections.get(session) is not connection:
            return
        del self._connections[session]
        session.send = None
        if self._config.limits.resume_s and not self.draining and not session.ending:
            self._detached[session] = time.monotonic()
        else:
            self._spawn(self.finish(session, "connection_lost"))

    async def finish(self, session: Session, reason: str, timeout_s: float = FINISH_S) -> None:
        """End a session and remove it from the registry."""
        self._detached.pop(session, None)
        await session.finish(reason, timeout_s)
        self._connections.pop(session, None)
        if self._by_token.pop(session.resume_token, None) is not None:
            log.info("stream ended", extra={"session_id": session.id, "reason": reason})
            self._audit.record("session.end", session_id=session.id, reason=reason)

    async def run(self) -> None:
        """Acknowledge audio once a second; end sessions that are idle, expired or detached."""
        acknowledged: dict[Session, float] = {}
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for session, connection in list(self._connections.items()):
                if session.ending:
                    continue
                if now - acknowledged.get(session, session.started_at) >= ACK_S:
                    acknowledged[session] = now
                    session.acknowledge()
                self._expire(session, connection, now)
            for session, since in list(self._detached.items()):
                if now - since > self._config.limits.resume_s:
                    self._spawn(self.finish(session, "connection_lost"))
            for token, (_, since) in list(self._ended.items()):
                if now - since > self._config.limits.resume_s:
                    del self._ended[token]
            for session in [s for s in acknowledged if s not in self._connections]:
                del acknowledged[session]

    async def drain(self, timeout_s: float) -> None:
        """End all sessions within `timeout_s`: score the tails, send `draining`, close."""
        self.draining = True
        finish_s = timeout_s * 0.6
        waiting = [c.fail(draining_error(), finish_s) for c in list(self._connections.values())]
        waiting += [self.finish(s, "draining", finish_s) for s in list(self._detached)]
        done = asyncio.gather(*waiting, *self._tasks, return_exceptions=True)
        try:
            await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            log.warning("drain timed out", extra={"sessions": len(self)})

    def _find(self, stream_id: str) -> Session | None:
        live = self._hub.streams.get(stream_id)
        return next((s for s in self._by_token.values() if s.live is live), None)

    async def _take_over(self, session: Session, stream_id: str, takeover: bool) -> None:
        """End the session that has the stream id, if that is allowed. Raises `ProtocolError`.

        A detached session may always be ended, an attached one only with `takeover`.
        """
        connection = self._connections.get(session)
        if connection is not None and not takeover:
            raise ProtocolError(
                "stream_conflict",
                f"stream_id {stream_id!r} is live on another connection; choose another, or "
                "connect with takeover=true",
                param="stream_id",
            )
        error = ProtocolError("stream_conflict", "stream_id was taken over by another connection")
        if connection is not None:
            session.emit(error.body(), shared=False)
        await self.finish(session, "taken_over", FINISH_S / 2)
        if connection is not None:
            self._spawn(connection.close(error.close_code, error.code))

    def _expire(self, session: Session, connection: Connection, now: float) -> None:
        limits = self._config.limits
        if now - connection.last_received > limits.idle_timeout_s:
            error = ProtocolError(
                "idle_timeout",
                f"no message for {limits.idle_timeout_s:g} s; send keepalive while there is "
                "no audio",
            )
            # A network that failed silently looks the same, so the producer may reattach.
            session.emit(error.body(), shared=False)
            self._metrics.refused(error.code)
            self._spawn(connection.close(error.close_code, error.code))
            self.detach(session, connection)
        elif now - session.started_at > limits.max_session_s:
            error = ProtocolError(
                "session_expired",
                f"the session reached its maximum of {limits.max_session_s:g} s; start a new one",
            )
            self._spawn(connection.fail(error))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
