"""The connection of one producer: a transport, a dialect, and the session behind them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stream.delivery.outbox import Outbox
from stream.delivery.transport import Message, Transport
from stream.ingest.dialect import (
    Annotate,
    Audio,
    Command,
    Dialect,
    End,
    Flush,
    Offer,
    Pause,
    Probe,
    Reply,
    Resume,
    Silence,
    Skip,
    Start,
    Unpause,
)
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EncodedEvent, EventEncoder
from stream.protocol.mistakes import Mistakes
from stream.protocol.wire.codes import ClosedReason, CloseReason, ErrorCode
from stream.protocol.wire.events import StreamBody
from stream.protocol.wire.session import SessionCreatedBody
from stream.services import Services
from stream.sessions.descriptions import default_session, producer_limits
from stream.sessions.registry import FINISH_S, SessionRegistry, new_session_id
from stream.sessions.session import Owner, Session
from stream.tenants import ANYONE, Principal

log = logging.getLogger(__name__)

LATE_S = 0.06
"""Seconds that a rest may last beyond the audio that it waits for, because that may be late."""

CLEAN_CLOSES = (1000, 1001, 1005)
"""Close codes that end the stream: normal closure, page left, no status code."""


class Producer(Owner):
    """Runs the commands of a dialect on a session, and sends the session's events.

    The session may outlive the connection. A `Handler` of its transport, and the `Owner` of its
    session.
    """

    def __init__(
        self,
        transport: Transport,
        dialect: Dialect,
        services: Services,
        sessions: SessionRegistry,
        principal: Principal = ANYONE,
    ) -> None:
        limits = services.config.limits
        self._transport = transport
        self._dialect = dialect
        self._services = services
        self._limits = limits
        self._sessions = sessions
        # All missed events are queued at once when a producer reattaches.
        bound = limits.subscriber_queue + limits.resume_events + 1
        self._outbox = Outbox(transport, bound, services.metrics, lambda dropped: None)
        self._encoder = EventEncoder(session_id := new_session_id(), session_id)
        self._session: Session | None = None
        self._opening = False
        self._over = False
        """Set once the end has begun; messages that still come are discarded."""
        self._ending = False
        """Set once the producer ended its stream."""
        self._messages: deque[Message] = deque()
        self._commands: Iterator[Command] = iter(())
        """The rest of the commands of a message; they wait while the session is being opened."""
        self._lost: tuple[int | None] | None = None
        """The close code, if the connection ended while the session was being opened."""
        self._gone = asyncio.Event()
        """Set once the connection has ended."""
        self._probes = False
        self._message_size = self._chunks = 0
        """Length of the newest message, and the chunks of audio in it."""
        self._mistakes = Mistakes()
        self._logged: set[ErrorCode] = set()
        """Codes of mistakes that were logged, because the producer does not get to know them."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._start_timer = asyncio.get_running_loop().call_later(
            limits.start_timeout_s, self._start_timeout
        )
        self.owner: Owner = self
        self.principal = principal
        self.last_received = time.monotonic()

    def connected(self) -> None:
        """Run the commands that the request implies; call once."""
        try:
            self._commands = iter(self._dialect.connected())
        except ProtocolError as error:
            self._mistake(error)
        self._work()

    # -- messages of the peer, see `transport.Handler` ---------------------------------------

    def received(self, message: Message) -> None:
        self.last_received = time.monotonic()
        if self._over:
            self._answer(message)
            return
        session = self._session
        if session is not None and not self._sessions.is_attached(session, self):
            # After a reattachment the producer sends this connection's unread audio again.
            return
        self._message_size, self._chunks = len(message), 0
        self._messages.append(message)
        self._work()
        if not self._chunks:
            # A command: the peer may wait for the answer, and a close may follow.
            self._transport.rest(1, 0, 0.0)

    def resumed(self) -> None:
        self._outbox.flush()

    def refused(self, code: ErrorCode, message: str) -> None:
        if self._over:
            return
        self._over = True
        error = ProtocolError(code, message)
        self._services.metrics.refused(code)
        session = self._session
        if session is None:
            self._emit(error.body())
        elif self._sessions.is_attached(session, self):
            session.emit(error.body(), shared=False)
            self._spawn(self._sessions.finish(session, code))

    def disconnected(self, code: int | None) -> None:
        """End the session after a clean close, else detach it so that the peer can reattach."""
        self._start_timer.cancel()
        self._gone.set()
        if self._opening:
            self._lost = (code,)
            return
        self._over = True
        self._outbox.flush()
        session, self._session = self._session, None
        if session is None:
            return
        if session.over:
            if code is not None:
                # The peer confirmed the close, so it has the last events.
                self._sessions.forget(session)
        elif not self._sessions.is_attached(session, self):
            return
        elif self._ending and not self._dialect.resumes:
            return  # `_end` goes on without the connection
        elif code in CLEAN_CLOSES:
            self._sessions.detach(session, self, left=True)
        elif not self._dialect.resumes:
            self._spawn(self._sessions.finish(session, "connection_lost"))
        else:
            self._sessions.detach(session, self, complete=self._ending)

    # -- callbacks of the session, see `session.Owner` ---------------------------------------

    def event(self, event: EncodedEvent) -> None:
        for message in self._dialect.send(event):
            self._outbox.put(message)

    def error(self, error: ProtocolError) -> None:
        self._mistake(error)

    def pause(self) -> None:
        self._transport.pause()

    def resume(self) -> None:
        self._transport.resume()

    def rest(self, chunks: int, chunk_s: float) -> None:
        chunks = min(chunks, int(self._dialect.rest_s / chunk_s))
        if chunks > 1 and self._chunks:
            size = self._message_size // self._chunks
            self._transport.rest(chunks, size, chunks * chunk_s + LATE_S)

    # -- callbacks of the registry, see `registry.Connection` --------------------------------

    def tick(self) -> None:
        """Close the connection of a producer that does not read its events."""
        if self._outbox.blocked_s() > self._limits.slow_consumer_s and not self._over:
            self._over = True
            self._services.metrics.refused("slow_consumer")
            if self._session is not None:
                self._sessions.detach(self._session, self)
            self._transport.close(self._dialect.close_code("slow_consumer"), "slow_consumer")
        if not (self._over or self._opening or self._messages):
            self._elapse()

    def _elapse(self) -> None:
        """Run the commands that are due by time; a producer that has some is not idle."""
        try:
            commands = tuple(self._dialect.tick())
        except ProtocolError as error:
            self._mistake(error)
            return
        if commands:
            self.last_received = time.monotonic()
            self._commands = iter(commands)
            self._work()

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Send the error, end the session within `finish_s` seconds, close."""
        self._over = True
        error.fatal = True
        self._log(error)
        self._services.metrics.refused(error.code)
        session = self._session
        if session is None:
            self._emit(error.body())
        elif self._sessions.is_attached(session, self):
            if not session.over:
                session.emit(error.body(), shared=False)
            await self._sessions.finish(session, error.code, finish_s)
        await self.close(error.code)

    async def close(self, reason: CloseReason) -> None:
        """Close after all queued events were sent, without ending the session."""
        self._over = True
        self._start_timer.cancel()
        self._transport.resume()  # or the peer's close frame would not be read
        while self._messages:
            self._answer(self._messages.popleft())
        if parting_s := self._dialect.parting_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), parting_s)
        await self._outbox.close(self._dialect.close_code(reason), reason)

    # -- commands ----------------------------------------------------------------------------

    def _work(self) -> None:
        """Run all commands received; mistakes and faults affect this connection only."""
        while not self._over and not self._opening:
            try:
                for command in self._commands:
                    self._do(command)
                    if self._over or self._opening:
                        return
                if not self._messages:
                    return
                self._commands = iter(self._dialect.receive(self._messages.popleft()))
            except ProtocolError as error:
                self._mistake(error)
            except Exception:
                log.exception("session failed", extra={"session_id": self._encoder.session_id})
                fault = "internal server error; connect again"
                self._fail_soon(ProtocolError("internal_error", fault))

    def _do(self, command: Command) -> None:
        if type(command) is Audio and self._session is not None:
            # Fifty times a second; everything else is rare.
            self._chunks += 1
            self._session.audio(command.data)
            return
        match command:
            case Start() | Resume():
                if self._session is not None:
                    raise ProtocolError(
                        "config_invalid",
                        "the session has started already; close it and start a new one",
                        fatal=False,
                    )
                self._open_soon(command)
                return
            case Offer():
                self._emit(self._defaults())
                return
            case Reply(message):
                self._outbox.put(message)
                return
            case Probe():
                self._probe()
                return
        session = self._session
        if session is None:
            if isinstance(command, End) and self._probes:
                self._over = True
                self._spawn(self.close("completed"))
                return
            if isinstance(command, End):
                raise ProtocolError(command.reason, "the connection ended before a session began")
            raise ProtocolError(
                "invalid_message", "the session has not started: send its configuration first"
            )
        match command:
            case Silence(samples):
                session.silence(samples)
            case Skip(samples):
                session.skip(samples)
            case Flush():
                session.flush()
            case Pause():
                session.pause()
            case Unpause(skipped_ms):
                session.unpause(skipped_ms)
            case Annotate(note):
                session.annotate(note)
            case End(reason):
                self._over = self._ending = True
                self._spawn(self._end(session, reason))

    def _answer(self, message: Message) -> None:
        """Send the replies to a message that came after the end."""
        if self._dialect.parting_s:
            with suppress(ProtocolError):
                for command in self._dialect.receive(message):
                    if isinstance(command, Reply):
                        self._outbox.put(command.message)

    def _probe(self) -> None:
        """Wait longer for the end of a probe than for the start of a session."""
        self._probes = True
        self._services.metrics.probed(self._dialect.name)
        self._start_timer.cancel()
        self._start_timer = asyncio.get_running_loop().call_later(
            self._limits.idle_timeout_s, self._start_timeout
        )

    def _mistake(self, error: ProtocolError) -> None:
        """Report a mistake; end the connection if it is fatal or one too many."""
        too_many = self._mistakes.add(time.monotonic())
        if error.fatal or too_many:
            self._fail_soon(error)
            return
        self._services.metrics.refused(error.code)
        self._log(error)
        if self._session is not None:
            self._session.emit(error.body(), shared=False)
        else:
            self._emit(error.body())

    def _log(self, error: ProtocolError) -> None:
        """Log a mistake of a producer that is not told about it, once for each code."""
        if self._dialect.answers or error.code in self._logged or error.code == "draining":
            return
        self._logged.add(error.code)
        log.warning(
            "call refused" if error.fatal else "call has mistakes",
            extra={
                "dialect": self._dialect.name,
                "code": error.code,
                "why": error.message,
                "peer": self._transport.peer,
                "session_id": self._encoder.session_id,
            },
        )

    # -- the session -------------------------------------------------------------------------

    def _open_soon(self, command: Start | Resume) -> None:
        self._opening = True
        self._transport.pause()
        self._spawn(self._open(command))

    async def _open(self, command: Start | Resume) -> None:
        try:
            if isinstance(command, Start):
                session = self._session = await self._start(command)
                session.announce(command.event_type)
            else:
                session = self._sessions.reattach(command.token, self, command.last_seq)
                self._session = session
        except ProtocolError as error:
            self._opening = False
            await self.fail(error)
            return
        self._opening = False
        self._start_timer.cancel()
        self._transport.resume()
        self._work()
        if self._lost is not None:
            self.disconnected(*self._lost)
        elif session.over and isinstance(command, Resume):
            self._over = True
            await session.closed.wait()
            await self.close("completed")

    async def _start(self, command: Start) -> Session:
        """Open the session of a command. Raises `ProtocolError`."""
        try:
            return await self._sessions.open(
                command.config, self, self._encoder, self._dialect.name, command.takeover
            )
        except ProtocolError as error:
            if error.code != "stream_conflict" or not command.renamed:
                raise
        # Refusing it would end a call; taking over would end another one.
        log.warning(
            "two calls have one id; the second gets another",
            extra={"dialect": self._dialect.name, "session_id": self._encoder.session_id},
        )
        config = command.config.model_copy(update={"stream_id": None})
        return await self._start(replace(command, config=config, renamed=False))

    async def _end(self, session: Session, reason: ClosedReason) -> None:
        if reason != "objected":
            await session.caught_up()
        await self._sessions.finish(session, reason, keep=True)
        await self.close("completed")

    def _start_timeout(self) -> None:
        limit = self._limits.start_timeout_s
        if self._session is None and not self._opening and not self._over:
            self._elapse()
        if self._session is None and not self._opening and not self._over:
            missing = (
                "no session.update within {} s of connecting: send it at once, or put sample_rate "
                "into the URL"
                if self._dialect.answers
                else "nothing started the call within {} s of connecting"
            )
            self._fail_soon(ProtocolError("start_timeout", missing.format(f"{limit:g}")))

    def _defaults(self) -> SessionCreatedBody:
        config = self._services.config
        return {
            "type": "session.created",
            "session": default_session(config, self._services.model),
            "limits": producer_limits(config.limits),
            "node": config.server.name,
        }

    def _emit(self, body: StreamBody) -> None:
        """Send an event that precedes the session."""
        self.event(self._encoder.encode(body))

    def _fail_soon(self, error: ProtocolError) -> None:
        if not self._over:
            self._over = True
            self._spawn(self.fail(error))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session failed", exc_info=error)
            self._transport.abort()
