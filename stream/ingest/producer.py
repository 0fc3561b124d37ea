"""Handler of /v1/stream: the connection of a producer that uses `emotide.v1`."""

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
from stream.sessions.descriptions import default_session, producer_limits
from stream.sessions.registry import FINISH_S, SessionRegistry, new_session_id
from stream.sessions.session import Session
from stream.telemetry.metrics import Metrics
from stream.types import Body, ModelInfo

log = logging.getLogger(__name__)

MAX_MISTAKES = 10
"""Number of invalid messages after which the connection is closed."""

PERIOD_S, MAX_MESSAGES = 0.1, 100
"""Read limit: 100 messages per 0.1 s, 1000 a second. Audio needs 50 a second."""

CLEAN_CLOSES = (1000, 1001, 1005)
"""Close codes that end the stream: normal closure, page left, no status code."""

CLOSE_TIMEOUT_S = 5.0
"""Time for a client to read its last events and to close."""


class Producer:
    """WebSocket connection of one producer. Its session may outlive it."""

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
            # All missed events are queued at once when a producer reattaches.
            config.limits.subscriber_queue + config.limits.resume_events + 1
        )
        self._session: Session | None = None
        self._session_id = new_session_id()
        self._seq = 0
        self._mistakes = 0
        self._period, self._messages = 0.0, 0
        self.last_received = time.monotonic()

    async def run(self, query: Query) -> None:
        """Serve the connection until either side ends it."""
        self._writer = asyncio.create_task(self._write(), name=f"writer[{self._session_id}]")
        try:
            self._session = await self._start(query)
            if self._session.ending:
                await self._session.closed.wait()
                await self.close(1000, "completed")
            else:
                await self._read(self._session)
        except ProtocolError as error:
            await self.fail(error)
        except ConnectionClosed as closed:
            await self._disconnected(closed)
        except Exception:
            log.exception("session failed", extra={"session_id": self._session_id})
            fault = "internal server error; connect again"
            await self.fail(ProtocolError("internal_error", fault))
        finally:
            self._writer.cancel()
            # Session and connection refer to each other; see `StreamScorer.forget`.
            self._session = None

    async def fail(self, error: ProtocolError, finish_s: float = FINISH_S) -> None:
        """Send the error, end the session within `finish_s` seconds, close."""
        error.fatal = True
        self._metrics.refused(error.code)
        if self._session is None:
            self._send(error.body())
        elif self._sessions.is_attached(self._session, self):
            if not self._session.ending:
                self._session.emit(error.body(), shared=False)
            await self._sessions.finish(self._session, error.code, finish_s)
        await self.close(error.close_code, error.code)

    async def close(self, code: int, reason: str) -> None:
        """Close after all queued events were sent, without ending the session."""
        reading = asyncio.create_task(self._discard())
        sent = asyncio.create_task(self._outbox.emptied())
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.wait({sent, self._writer}, return_when=asyncio.FIRST_COMPLETED)
                await self._socket.close(code, reason)
        except TimeoutError:
            self._socket.transport.abort()
        finally:
            reading.cancel()
            sent.cancel()

    async def _discard(self) -> None:
        """Discard messages that the peer still sends, so that its close frame can be read."""
        with suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await self._socket.recv()

    async def _start(self, query: Query) -> Session:
        request = parse_query(query)
        if "resume" in query:
            return await self._reattach(query)
        if request is not None:
            return await self._open(request, query, "session.created")
        self._send(
            {
                "type": "session.created",
                "session": default_session(self._config, self._model),
                "limits": producer_limits(self._config.limits),
                "node": self._config.server.name,
            }
        )
        return await self._open(await self._receive_update(query), query, "session.updated")

    async def _receive_update(self, query: Query) -> SessionConfig:
        """Receive `session.update`, which must come first; return it merged with the URL's query.

        Raises `ProtocolError` for audio, and if no `session.update` comes in time.
        """
        limit = self._config.limits.start_timeout_s
        try:
            async with asyncio.timeout(limit):
                while True:
                    message = await self._receive()
                    if isinstance(message, bytes):
                        raise ProtocolError(
                            "config_invalid",
                            "audio received before its format: send session.update first, or put "
                            "sample_rate (and encoding, channels) into the URL",
                            param="session.audio.sample_rate",
                        )
                    try:
                        control = parse_producer(message)
                    except ProtocolError as error:
                        self._count_mistake(error)
                        self._send(error.body())
                        continue
                    if isinstance(control, SessionUpdate):
                        return overlay(query, control.session)
                    if isinstance(control, SessionClose):
                        raise ProtocolError("completed", "session.close came before session.update")
        except TimeoutError:
            raise ProtocolError(
                "start_timeout",
                f"no session.update within {limit:g} s of connecting: send it at once, or put "
                "sample_rate into the URL",
            ) from None

    async def _open(self, request: SessionConfig, query: Query, event_type: str) -> Session:
        takeover = parse_flag(query, "takeover")
        session = await self._sessions.open(request, self, self._session_id, self._seq, takeover)
        session.send = self._outbox.put
        limits = producer_limits(self._config.limits)
        session.announce(event_type, limits, self._config.server.name)
        return session

    async def _reattach(self, query: Query) -> Session:
        last = query.get("last_seq", ["-1"])[-1]
        if re.fullmatch(r"-?\d{1,15}", last, re.ASCII) is None:
            raise ProtocolError(
                "config_invalid", "last_seq: must be the last seq received", param="last_seq"
            )
        session = self._sessions.reattach(query["resume"][-1], self)
        await session.attach(self._outbox.put, int(last))
        return session

    async def _receive(self) -> str | bytes:
        """Receive the next message. Raises `ProtocolError` for one that is too large."""
        message = await self._socket.recv()
        await self._limit_rate()
        limit = self._config.limits.max_message_bytes
        if len(message) > limit:
            raise ProtocolError(
                "message_too_large", f"a message had {len(message)} bytes; send at most {limit}"
            )
        return message

    async def _limit_rate(self) -> None:
        """Yield to other connections, because `recv` does not while messages are buffered.

        After `MAX_MESSAGES` messages in a period, wait for the end of the period.
        """
        now = time.monotonic()
        if now - self._period >= PERIOD_S:
            self._period, self._messages = now, 0
        self._messages += 1
        exceeded = self._messages > MAX_MESSAGES
        await asyncio.sleep(self._period + PERIOD_S - now if exceeded else 0)

    async def _read(self, session: Session) -> None:
        while True:
            message = await self._receive()
            if session.ending or not self._sessions.is_attached(session, self):
                # The task that ends or reattaches the session also closes this socket. After a
                # reattachment the producer sends this socket's unread audio again.
                await self._discard()
                return
            self.last_received = time.monotonic()
            try:
                if isinstance(message, str):
                    if await self._control(session, message):
                        return
                else:
                    await session.audio(message)
            except ProtocolError as error:
                self._count_mistake(error)
                session.emit(error.body(), shared=False)

    def _count_mistake(self, error: ProtocolError) -> None:
        """Count a mistake; raise the error if it is fatal or reaches `MAX_MISTAKES`."""
        self._mistakes += 1
        if error.fatal or self._mistakes >= MAX_MISTAKES:
            raise error
        self._metrics.refused(error.code)

    async def _control(self, session: Session, text: str) -> bool:
        """Process a TEXT message; return True if it ended the session."""
        message = parse_producer(text)
        match message:
            case KeepAlive():
                pass
            case InputFlush():
                await session.flush()
            case InputPause():
                await session.pause()
            case InputResume():
                await session.unpause(message.skipped_ms)
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
                    "session.update must be the first message; close and start a new session",
                    param="type",
                    fatal=False,
                )
        return False

    async def _end(self, reason: str) -> None:
        if self._session is None:
            return
        await self._sessions.finish(self._session, reason)
        await self.close(1000, reason)
        if self._socket.protocol.close_rcvd is None:
            # The connection broke before the peer confirmed, so it may reconnect for the totals.
            self._sessions.keep_ended(self._session)

    async def _disconnected(self, closed: ConnectionClosed) -> None:
        """End the session after a clean close, else detach it so that the peer can reattach."""
        session = self._session
        if session is None or session.ending or not self._sessions.is_attached(session, self):
            return
        if closed.rcvd is not None and closed.rcvd.code in CLEAN_CLOSES:
            await self._sessions.finish(session, "client_closed")
        else:
            self._sessions.detach(session, self)

    async def _write(self) -> None:
        """Send queued events; a peer that does not read only fills its own bounded outbox."""
        try:
            while True:
                data = await self._outbox.get()
                if self._outbox.dropped:
                    self._metrics.dropped("ws", self._outbox.dropped)
                    self._outbox.dropped = 0
                await self._socket.send(data, text=True)
                self._metrics.sent("ws")
        except ConnectionClosed:
            return

    def _send(self, body: Body) -> None:
        """Queue an event that precedes the session."""
        event = encode(body, self._seq, self._session_id, self._session_id, time.time())
        self._seq += 1
        self._outbox.put(event.data)
