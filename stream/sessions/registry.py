"""Registry of all sessions of this process: open, reattach, expire, drain."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from stream.admission import admit
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EventEncoder
from stream.protocol.messages import SessionConfig
from stream.protocol.wire.codes import ClosedReason, CloseReason
from stream.services import Services
from stream.sessions.ahead import Ahead
from stream.sessions.pump import Pump
from stream.sessions.session import Owner, Session, SessionState
from stream.tenants import Principal

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

    `owner` receives what its session sends, `principal` is who connected. `last_received` is the
    arrival time of its newest message (monotonic seconds).
    """

    owner: Owner
    principal: Principal
    last_received: float

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Send the error, end the session within `finish_s` seconds, close."""
        ...

    async def close(self, reason: CloseReason) -> None:
        """Close after all queued events were sent, for an error code or "resumed elsewhere"."""
        ...

    def tick(self) -> None:
        """Check the connection's own time limits; called ten times a second."""
        ...


def draining_error() -> ProtocolError:
    """Return the error for clients of a server that shuts down."""
    return ProtocolError(
        "draining", "this server is shutting down; connect again in a moment", retry_after_s=1.0
    )


@dataclass(slots=True, eq=False)
class _Entry:
    """A session with its connection, which is None unless the session is attached.

    `since` is when it was detached or ended, `acknowledged` when `audio.ack` was sent, `busy` the
    last time at which received audio was still waiting (monotonic seconds).
    """

    session: Session
    connection: Connection | None
    since: float
    acknowledged: float
    busy: float
    left: bool = False
    """True if the producer closed the stream; it is ended once its audio is analysed."""
    evicted: bool = False


class SessionRegistry:
    """Registry of sessions; `run` also sends acknowledgements and applies the time limits."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._config = services.config
        self._audit = services.audit
        self._entries: dict[str, _Entry] = {}
        """By resume token: live sessions, and ended ones whose last events may be missing."""
        self._pump = Pump()
        limits = services.config.limits
        self._ahead = Ahead(int(limits.held_mb * 1_048_576), limits.catch_up)
        self._live = 0
        self._turn = asyncio.Lock()
        self._opening: list[Principal] = []
        """Those whose sessions wait for the end of another one."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return self._live

    @property
    def parked(self) -> int:
        """Number of sessions that wait for a producer to return."""
        return sum(e.session.state is SessionState.DETACHED for e in self._entries.values())

    @property
    def full(self) -> bool:
        """True if `limits.max_sessions` is reached; parked sessions do not hold the last places."""
        if self._live + len(self._opening) < self._config.limits.max_sessions:
            return False
        return self._oldest_parked() is None

    def check_quota(self, principal: Principal, stream_id: str | None) -> None:
        """Raise `ProtocolError` (quota_exceeded) if one more session exceeds a quota.

        Parked sessions do not count: they end for a new one of their tenant. Neither does the
        session that has the stream id now, as the new one can only replace it.
        """
        replaced = None if stream_id is None else self._find(principal, stream_id)
        attached = [
            entry.session.principal
            for entry in self._entries.values()
            if entry.session.state is SessionState.ATTACHED and entry is not replaced
        ]
        self._services.quotas.check("sessions", principal, attached + self._opening)

    def _make_room(self, principal: Principal, stream_id: str | None) -> None:
        """End the oldest parked session if the server, or a quota, has no place beside it."""
        places = self._config.limits.max_sessions
        replaced = None if stream_id is None else self._find(principal, stream_id)
        live = [
            entry.session.principal
            for entry in self._entries.values()
            if not entry.session.over and not entry.evicted and entry is not replaced
        ]
        if self._live + len(self._opening) >= places:
            self._evict(self._oldest_parked(principal) or self._oldest_parked())
        elif self._services.quotas.is_full("sessions", principal, live + self._opening):
            self._evict(self._oldest_parked(principal))

    async def open(
        self,
        request: SessionConfig,
        connection: Connection,
        encoder: EventEncoder,
        adapter: str,
        takeover: bool,
    ) -> Session:
        """Grant and register a session. Raises `ProtocolError`."""
        # One at a time, with other work of the event loop between: a hundred calls that come at
        # once would otherwise hold it for 50 ms.
        async with self._turn:
            await asyncio.sleep(0)
        if self.draining:
            raise draining_error()
        if self.full:
            raise ProtocolError(
                "overloaded",
                f"the server is at its limit of {self._config.limits.max_sessions} streams "
                "(limits.max_sessions); try again later",
                retry_after_s=5.0,
            )
        self.check_quota(connection.principal, request.stream_id)
        self._make_room(connection.principal, request.stream_id)
        grant = admit(self._config, request, self._services.model)
        if request.stream_id is not None:
            # Counted meanwhile, so that others cannot exceed the limit.
            self._opening.append(connection.principal)
            try:
                # Another connection may get the id while this one waits, so check again.
                while (holder := self._find(connection.principal, request.stream_id)) is not None:
                    await self._take_over(holder, request.stream_id, takeover)
            finally:
                self._opening.remove(connection.principal)
        session = Session(
            self._services,
            request,
            grant,
            encoder,
            adapter,
            connection.owner,
            self._pump,
            self._ahead,
            connection.principal,
        )
        now = time.monotonic()
        self._entries[session.resume_token] = _Entry(session, connection, now, now, now)
        self._live += 1
        live = session.live
        log.info("stream started", extra={"session_id": session.id, "roles": ",".join(live.roles)})
        self._audit.record(
            "session.start",
            session_id=session.id,
            tenant=live.tenant,
            key=connection.principal.key or None,
            roles=live.roles,
            analysed=[live.roles[c] for c in live.analysed],
            employee_basis=self._config.privacy.employee_basis,
            consent=request.consent.model_dump(),
        )
        return session

    def reattach(self, token: str, connection: Connection, last_seq: int) -> Session:
        """Attach a session to the new connection of its producer, and send the missed events.

        The connection that it was attached to is closed. Raises `ProtocolError` (unknown_stream)
        for an unknown token, and in the same words for one of another tenant.
        """
        entry = self._entries.get(token)
        if entry is None or entry.session.live.tenant != connection.principal.tenant:
            raise ProtocolError(
                "unknown_stream",
                "unknown or expired resume token; start a new session",
                param="resume",
            )
        if not entry.session.over:
            previous, entry.connection = entry.connection, connection
            entry.left = False
            # One that returns after a time without audio gets the time to send some.
            limits = self._config.limits
            grace = time.monotonic() - limits.no_audio_timeout_s + limits.idle_timeout_s
            entry.session.heard_at = max(entry.session.heard_at, grace)
            if previous is not None:
                self._spawn(previous.close("resumed elsewhere"))
        entry.session.attach(connection.owner, last_seq)
        return entry.session

    def is_attached(self, session: Session, connection: Connection) -> bool:
        """Return whether the session is attached to this connection, and not to a newer one."""
        entry = self._entries.get(session.resume_token)
        return entry is not None and entry.connection is connection

    def detach(
        self,
        session: Session,
        connection: Connection,
        left: bool = False,
        complete: bool = False,
    ) -> None:
        """Keep the session of a broken connection so that its producer can reattach.

        With `left`, the producer closed the connection; with `complete` it ended the stream, and
        its connection waits for the end. Then audio that it sent ahead is still analysed.
        """
        entry = self._entries.get(session.resume_token)
        if entry is None or entry.connection is not connection:
            return
        entry.connection, entry.since, entry.left = None, time.monotonic(), left
        session.detach(left, complete)
        self._end_parked(entry, entry.since)

    async def finish(
        self,
        session: Session,
        reason: ClosedReason,
        timeout_s: float = FINISH_S,
        keep: bool = False,
    ) -> None:
        """End a session and remove it, or `keep` it for a producer that may miss the last events.

        A second call waits for the first.
        """
        first = not session.over
        await session.finish(reason, timeout_s)
        if not first:
            return
        self._live -= 1
        log.info("stream ended", extra={"session_id": session.id, "reason": reason})
        self._audit.record(
            "session.end", session_id=session.id, tenant=session.live.tenant, reason=reason
        )
        if not keep:
            self.forget(session)
            return
        entry = self._entries[session.resume_token]
        entry.connection, entry.since = None, time.monotonic()
        ended = [e for e in self._entries.values() if e.session.state is SessionState.ENDED]
        for entry in ended[:-MAX_ENDED]:
            self.forget(entry.session)

    def forget(self, session: Session) -> None:
        """Remove an ended session."""
        if session.state is SessionState.ENDED:
            self._entries.pop(session.resume_token, None)

    async def run(self) -> None:
        """Acknowledge once a second, end what is idle, expired or detached for too long."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for entry in list(self._entries.values()):
                try:
                    self._tick(entry, now)
                except Exception:
                    log.exception("session failed", extra={"session_id": entry.session.id})

    def _tick(self, entry: _Entry, now: float) -> None:
        session, limits = entry.session, self._config.limits
        match session.state:
            case SessionState.ATTACHED if entry.connection is not None:
                if now - entry.acknowledged >= ACK_S:
                    entry.acknowledged = now
                    session.acknowledge()
                entry.connection.tick()
                if session.is_busy:
                    entry.busy = now
                self._expire(entry, entry.connection, now)
            case SessionState.DETACHED:
                self._end_parked(entry, now)
            case SessionState.ENDED if now - entry.since > limits.resume_s:
                self.forget(session)

    async def drain(self, timeout_s: float) -> None:
        """End all sessions within `timeout_s`: score the tails, send `draining`, close."""
        self.draining = True
        finish_s = timeout_s * 0.6
        waiting = list(self._endings(finish_s))
        done = asyncio.gather(*waiting, *self._tasks, return_exceptions=True)
        try:
            await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            log.warning("drain timed out", extra={"sessions": len(self)})

    def _endings(self, finish_s: float) -> Iterator[Coroutine[Any, Any, None]]:
        for entry in self._entries.values():
            if entry.connection is not None:
                yield entry.connection.fail(draining_error(), finish_s)
            elif not entry.session.over:
                yield self.finish(entry.session, "draining", finish_s)

    def _find(self, principal: Principal, stream_id: str) -> _Entry | None:
        """Return the session of the principal's own tenant that has the stream id, if any."""
        live = self._services.hub.streams.get((principal.tenant, stream_id))
        entries = self._entries.values() if live is not None else ()
        return next((entry for entry in entries if entry.session.live is live), None)

    async def _take_over(self, entry: _Entry, stream_id: str, takeover: bool) -> None:
        """End the session that has the stream id, if that is allowed. Raises `ProtocolError`.

        A detached session may always be ended, an attached one only with `takeover`.
        """
        session, connection = entry.session, entry.connection
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
            self._spawn(connection.close(error.code))

    def _end_parked(self, entry: _Entry, now: float) -> None:
        """End a session whose producer left or did not return, once all its audio is analysed."""
        if entry.session.is_behind and not self.draining:
            return
        if entry.left:
            self._spawn(self.finish(entry.session, "client_closed"))
        elif now - entry.since >= self._config.limits.resume_s or self.draining:
            self._spawn(self.finish(entry.session, "connection_lost"))

    def _oldest_parked(self, principal: Principal | None = None) -> _Entry | None:
        """Return the session that has been parked longest, of the principal's tenant if given."""
        waiting = (e for e in self._entries.values() if e.session.state is SessionState.DETACHED)
        among = (
            entry
            for entry in waiting
            if principal is None or entry.session.live.tenant == principal.tenant
        )
        return min((e for e in among if not e.evicted), key=lambda e: e.since, default=None)

    def _evict(self, entry: _Entry | None) -> None:
        """End a parked session because a new one needs its place."""
        if entry is not None:
            entry.evicted = True
            log.info("parked stream ended", extra={"session_id": entry.session.id})
            self._spawn(self.finish(entry.session, "connection_lost"))

    def _expire(self, entry: _Entry, connection: Connection, now: float) -> None:
        session, limits = entry.session, self._config.limits
        # A producer that sent a file and waits for its scores is not idle.
        if now - max(connection.last_received, entry.busy) > limits.idle_timeout_s:
            self._expire_idle(
                session,
                connection,
                f"no message for {limits.idle_timeout_s:g} s; send keepalive while there is "
                "no audio",
            )
        elif now - max(session.heard_at, entry.busy) > limits.no_audio_timeout_s:
            self._expire_idle(
                session,
                connection,
                f"less than a second of audio in {limits.no_audio_timeout_s:g} s; connect again "
                "when there is audio",
            )
        elif now - session.started_at > limits.max_session_s:
            error = ProtocolError(
                "session_expired",
                f"the session reached its maximum of {limits.max_session_s:g} s; start a new one",
            )
            self._spawn(connection.fail(error))

    def _expire_idle(self, session: Session, connection: Connection, reason: str) -> None:
        error = ProtocolError("idle_timeout", reason)
        # A network that failed silently looks the same, so the producer may reattach.
        session.emit(error.body(), shared=False)
        self._services.metrics.refused(error.code)
        self._spawn(connection.close(error.code))
        self.detach(session, connection)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
