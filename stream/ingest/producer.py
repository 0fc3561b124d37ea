"""A producer that speaks `emotide.v1` on /v1/stream."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError, ConnectionClosed

from stream.config import Config
from stream.delivery.queues import ConflatingQueue
from stream.protocol.errors import ProtocolError
from stream.protocol.events import encode
from stream.protocol.messages import (
    InputFlush,
    InputPause,
    InputResume,
    KeepAlive,
    SessionAnnotate,
    SessionClose,
    SessionConfig,
    SessionUpdate,
)
from stream.protocol.parsing import Query, overlay, parse_flag, parse_producer, parse_query
from stream.sessions.descriptions import bounds, offered
from stream.sessions.registry import FINISH_S, SessionRegistry, new_session_id
from stream.sessions.session import Session
from stream.telemetry.metrics import Metrics
from stream.types import Body, ModelInfo

log = logging.getLogger(__name__)

PATIENCE = 10
"""This many messages may be wrong before the connection is closed for it."""

PERIOD_S, MESSAGES = 0.1, 100
"""A connection is read at most this often: a thousand messages a second, where audio needs 50."""

GOODBYES = (1000, 1001, 1005)
"""Close codes of a peer that is done: done, leaving the page, or closing without a word."""

GOODBYE_S = 5.0
"""How long a peer may take to read its last events and to close."""


class Producer:
    """One WebSocket of a producer; the session behind it may outlive it."""

    def __init__(
        self,
        socket: ServerConnection,
        config: Config,
        model: ModelInfo,
        sessions: SessionRegistry,
        metrics: Metrics,
    ) -> None:
        self._socket = socket
        self._config = config
        self._model = model
        self._sessions = sessions
        self._metrics = metrics
        self._outbox: ConflatingQueue[bytes] = ConflatingQueue(
            # A returning producer is told all that it missed at once.
            config.limits.subscriber_queue + config.limits.resume_events + 1
        )
        self._session: Session | None = None
        self._session_id = new_session_id()
        self._seq = 0
        self._mistakes = 0
        self._period, self._messages = 0.0, 0
        self.last_heard = time.monotonic()

    async def run(self, query: Query) -> None:
        """Serve the connection until it ends, whoever ends it."""
        self._writer = asyncio.create_task(self._write(), name=f"writer[{self._session_id}]")
        try:
            self._session = await self._begin(query)
            if self._session.ended:
                await self._session.over.wait()
                await self.leave(1000, "completed")
            else:
                await self._listen(self._session)
        except ProtocolError as error:
            await self.refuse(error)
        except ConnectionClosed as closed:
            await self._gone(closed)
        except Exception:
            log.exception("a producer's session failed", extra={"session_id": self._session_id})
            fault = "something went wrong here; connect again"
            await self.refuse(ProtocolError("internal_error", fault))
        finally:
            self._writer.cancel()
            # Session and connection know each other; see `Scoring.forget`.
            self._session = None

    async def refuse(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Tell the error, end the session within `finish_s` seconds, close."""
        error.fatal = True
        self._metrics.refused(error.code)
        if self._session is None:
            self._say(error.body())
        elif self._sessions.owns(self, self._session):
            if not self._session.ended:
                self._session.emit(error.body(), shared=False)
            await self._sessions.finish(self._session, error.code, finish_s)
        await self.leave(error.close_code, error.code)

    async def leave(self, code: int, reason: str) -> None:
        """Close after everything said so far was sent, without ending the session."""
        reading = asyncio.create_task(self._discard())
        sent = asyncio.create_task(self._outbox.emptied())
        try:
            async with asyncio.timeout(GOODBYE_S):
                await asyncio.wait({sent, self._writer}, return_when=asyncio.FIRST_COMPLETED)
                await self._socket.close(code, reason)
        except TimeoutError:
            self._socket.transport.abort()
        finally:
            reading.cancel()
            sent.cancel()

    async def _discard(self) -> None:
        """Read what the peer still sends, so that its goodbye is not stuck behind it."""
        with suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await self._socket.recv()

    async def _begin(self, query: Query) -> Session:
        wanted = parse_query(query)
        if "resume" in query:
            return await self._resume(query)
        if wanted is not None:
            return await self._open(wanted, query, "session.created")
        self._say(
            {
                "type": "session.created",
                "session": offered(self._config, self._model),
                "limits": bounds(self._config.limits),
                "node": self._config.server.name,
            }
        )
        return await self._open(await self._configuration(query), query, "session.updated")

    async def _configuration(self, query: Query) -> SessionConfig:
        """The `session.update` that must come first; it builds on the URL's query."""
        limit = self._config.limits.start_timeout_s
        try:
            async with asyncio.timeout(limit):
                while True:
                    message = await self._receive()
                    if isinstance(message, bytes):
                        raise ProtocolError(
                            "config_invalid",
                            "audio came before its format: send session.update first, or put "
                            "sample_rate (and encoding, channels) into the URL",
                            param="session.audio.sample_rate",
                        )
                    try:
                        said = parse_producer(message)
                    except ProtocolError as error:
                        self._bear(error)
                        self._say(error.body())
                        continue
                    if isinstance(said, SessionUpdate):
                        return overlay(query, said.session)
                    if isinstance(said, SessionClose):
                        raise ProtocolError("completed", "closed before it began")
        except TimeoutError:
            raise ProtocolError(
                "start_timeout", f"no session.update came within {limit:g} s of connecting"
            ) from None

    async def _open(self, wanted: SessionConfig, query: Query, kind: str) -> Session:
        takeover = parse_flag(query, "takeover")
        session = await self._sessions.open(wanted, self, self._session_id, self._seq, takeover)
        session.send = self._outbox.put
        session.open(kind, bounds(self._config.limits), self._config.server.name)
        return session

    async def _resume(self, query: Query) -> Session:
        last = query.get("last_seq", ["-1"])[-1]
        if re.fullmatch(r"-?\d{1,15}", last, re.ASCII) is None:
            raise ProtocolError(
                "config_invalid", "last_seq: must be the last seq received", param="last_seq"
            )
        session = self._sessions.resume(query["resume"][-1], self)
        await session.rejoin(self._outbox.put, int(last))
        return session

    async def _receive(self) -> str | bytes:
        """The next message. Raises `ProtocolError` for one that is too large."""
        message = await self._socket.recv()
        await self._take_turns()
        most = self._config.limits.max_message_bytes
        if len(message) > most:
            raise ProtocolError(
                "message_too_large", f"a message had {len(message)} bytes; send at most {most}"
            )
        return message

    async def _take_turns(self) -> None:
        """Let the others go on: `recv` only waits when nothing is buffered.

        Whoever sends more messages than any audio needs is not read for the rest of the period.
        """
        now = time.monotonic()
        if now - self._period >= PERIOD_S:
            self._period, self._messages = now, 0
        self._messages += 1
        over = self._messages > MESSAGES
        await asyncio.sleep(self._period + PERIOD_S - now if over else 0)

    async def _listen(self, session: Session) -> None:
        while True:
            message = await self._receive()
            if session.ended or not self._sessions.owns(self, session):
                # Over, or resumed elsewhere, where what this socket still holds is sent again:
                # whoever ended it says goodbye.
                await self._discard()
                return
            self.last_heard = time.monotonic()
            try:
                if isinstance(message, str):
                    if await self._control(session, message):
                        return
                else:
                    await session.audio(message)
            except ProtocolError as error:
                self._bear(error)
                session.emit(error.body(), shared=False)

    def _bear(self, error: ProtocolError) -> None:
        """Count a mistake; raises the error when it is fatal or one too many."""
        self._mistakes += 1
        if error.fatal or self._mistakes >= PATIENCE:
            raise error
        self._metrics.refused(error.code)

    async def _control(self, session: Session, text: str) -> bool:
        """Act on a TEXT message; True when the session is over."""
        message = parse_producer(text)
        match message:
            case KeepAlive():
                pass
            case InputFlush():
                await session.flush()
            case InputPause():
                await session.pause()
            case InputResume():
                await session.resume(message.skipped_ms)
            case SessionAnnotate(objected=True):
                await self._end("objected")
                return True
            case SessionAnnotate():
                session.annotate(message)
            case SessionClose():
                await self._end("completed")
                return True
            case SessionUpdate():
                raise ProtocolError(
                    "config_invalid",
                    "session.update can only come first; close and start a new session",
                    param="type",
                    fatal=False,
                )
        return False

    async def _end(self, reason: str) -> None:
        if self._session is None:
            return
        await self._sessions.finish(self._session, reason)
        await self.leave(1000, reason)
        if self._socket.protocol.close_rcvd is None:
            # The connection broke before the peer confirmed: it may come back for the totals.
            self._sessions.keep(self._session)

    async def _gone(self, closed: ConnectionClosed) -> None:
        """The peer left: with a proper close the stream is over, else it may come back."""
        session = self._session
        if session is None or session.ended or not self._sessions.owns(self, session):
            return
        if closed.rcvd is not None and closed.rcvd.code in GOODBYES:
            await self._sessions.finish(session, "client_closed")
        else:
            self._sessions.lost(session, self)

    async def _write(self) -> None:
        """Send what waits; a peer that does not read only fills its own bounded outbox."""
        try:
            while True:
                data = await self._outbox.get()
                if self._outbox.dropped:
                    self._metrics.lost("ws", self._outbox.dropped)
                    self._outbox.dropped = 0
                await self._socket.send(data, text=True)
                self._metrics.sent("ws")
        except ConnectionClosed:
            return

    def _say(self, body: Body) -> None:
        """An event before there is a session."""
        event = encode(body, self._seq, self._session_id, self._session_id, time.time())
        self._seq += 1
        self._outbox.put(event.data)
