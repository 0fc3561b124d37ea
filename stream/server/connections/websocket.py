"""One WebSocket on websockets' sans-I/O protocol: messages in turn, bounded memory, no tasks.

RFC 6455. uvicorn hands an upgraded connection over to this protocol class. Its bytes are parsed in
small pieces, and the pieces of all connections in a fair order, so that none holds the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from stream.delivery.transport import Handler, Message
from stream.protocol.version import SUBPROTOCOL
from stream.server.access.gate import Refusal
from stream.server.connections.fair_queue import FairQueue, Usage
from stream.server.connections.frames import FrameReader, wire_size
from stream.server.connections.intake import Intake
from stream.server.connections.keepalive import keep_alive
from stream.server.connections.rests import Rest

log = logging.getLogger(__name__)

PERIOD_S, MAX_MESSAGES = 0.1, 100
"""Read limit: 100 messages per 0.1 s, 1000 a second. Live audio needs 50 a second."""

AUDIO_BYTES, AUDIO_WEIGHT = 64, 0.25
"""Least bytes of a message of audio (10 ms of G.711 are 80), and what it counts.

A file in such messages stands before its sender's pings, and 1000 a second are 80 kB: too slow for
pings to be answered within the usual 20 s.
"""

STEP_S = 0.001
"""Seconds of work on messages before other connections are served."""

SEND_S = 0.001
"""Seconds in which a connection beyond its allowance sends what waits."""

CLOSE_TIMEOUT_S = 5.0
"""Seconds for the peer to confirm a close."""

MESSAGE_TIMEOUT_S = 30.0
"""Seconds for a message to arrive whole, once its first byte came."""


class Upgrade(Protocol):
    """The decision on a request: a handler for the connection, or a response that refuses it."""

    def __call__(
        self, connection: WebSocketConnection, request: Request
    ) -> Callable[[], Handler] | Response:
        """Return what makes the handler once the handshake is done, or a response.

        May lower `connection.max_bytes`, the largest message, and set `connection.subprotocols`.
        """
        ...


class WebSocketConnection(asyncio.Protocol):
    """A `Transport` on one WebSocket."""

    def __init__(
        self,
        upgrade: Upgrade,
        max_bytes: int,
        connections: set[WebSocketConnection],
        queue: FairQueue | None = None,
        usage: Usage | None = None,
    ) -> None:
        self._upgrade = upgrade
        self.queue = queue or FairQueue()
        self.usage = usage or self.queue.usage()
        self._connections = connections
        self._ws = _Protocol(max_bytes, self._too_large, self._select)
        self.subprotocols: Sequence[str] = (SUBPROTOCOL,)
        """Subprotocols of the endpoint; the first one that the client offers is selected."""
        self._loop = asyncio.get_running_loop()
        self._handler: Handler | None = None
        self._transport: asyncio.Transport
        self._intake: Intake
        self._rest: Rest
        self._writing_paused = False
        self.shares_sending = False
        """True if sending counts as use of the event loop, and waits like reading does."""
        self._waits_to_send = False
        self._send_until = 0.0
        self._closed = False
        self._closing: asyncio.TimerHandle | None = None
        self._reader = FrameReader(self._ws)
        self._frames: deque[Frame | bytes] = deque()
        """Frames that were parsed and not handled yet; bytes are a whole binary message."""
        self._fragments = bytearray()
        self._is_text = False
        self._unfinished_since: float | None = None
        self._period, self._messages = 0.0, 0.0
        self._pinged_at: float | None = None
        self._not_before = 0.0
        """Time before which the quota of the key allows no more bytes (monotonic seconds)."""
        self.meter: Callable[[int], float] = lambda size: 0.0
        """Counts received bytes; returns the seconds for which no more may be read."""
        self.peer = ""

    # -- Transport ---------------------------------------------------------------------------

    @property
    def max_bytes(self) -> int:
        """The largest message that the peer may send, in bytes."""
        return self._ws.max_message_size or 0

    @max_bytes.setter
    def max_bytes(self, size: int) -> None:
        self._ws.max_message_size = size

    @property
    def writable(self) -> bool:
        if self._closed or self._writing_paused:
            return self._closed
        if not self.shares_sending:
            return True
        now = self.queue.now()
        if now < self._send_until or self.usage.is_light(now):
            return True
        if not self._waits_to_send:
            self._waits_to_send = True
            self.queue.run_later(self.usage, self._send_waiting)
        return False

    def send(self, message: Message) -> None:
        if self._closed or self._ws.state is not OPEN:
            return
        begin = self.queue.now()
        self._send(message)
        if self.shares_sending:
            self.usage.spend(self.queue.now() - begin)

    def _send_waiting(self) -> bool:
        """Let the handler send for `SEND_S` seconds; `writable` asks for more."""
        self._waits_to_send = False
        if self._handler is not None and not self._writing_paused:
            self._send_until = self.queue.now() + SEND_S
            self._guard(self._handler.resumed)
            self._send_until = 0.0
        return False

    def _send(self, message: Message) -> None:
        if isinstance(message, str):
            self._ws.send_text(message.encode())
        else:
            self._ws.send_binary(message)
        self._write()

    def close(self, code: int, reason: str) -> None:
        if self._closed or self._ws.state is not OPEN:
            return
        self._ws.send_close(code, reason)
        self._write()
        self._closing = self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)
        self.resume()

    def abort(self) -> None:
        if not self._closed:
            self._transport.abort()

    def pause(self) -> None:
        self._intake.pause()

    def resume(self) -> None:
        if self._intake.paused and self._unfinished_since is not None:
            # Not the peer's time: it could not finish the message.
            self._unfinished_since = time.monotonic()
        self._intake.resume()

    def rest(self, messages: int, size: int, seconds: float) -> None:
        self._rest.begin(messages, wire_size(size), seconds)

    # -- time limits, called once a second ---------------------------------------------------

    def ping(self) -> None:
        """Send a ping; `silent_s` tells how long it has not been answered."""
        if not self._closed and self._ws.state is OPEN and self._pinged_at is None:
            self._pinged_at = time.monotonic()
            self._ws.send_ping(b"emotide")
            self._write()

    @property
    def silent_s(self) -> float:
        """Seconds for which a ping has not been answered; 0 if there is none."""
        return 0.0 if self._pinged_at is None else time.monotonic() - self._pinged_at

    def tick(self) -> None:
        """Drop a peer that does not finish its message."""
        since = self._unfinished_since
        if since is None or self._intake.paused:
            return
        if time.monotonic() - since > MESSAGE_TIMEOUT_S:
            self.close(CloseCode.POLICY_VIOLATION, "a message was not finished in time")

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._intake = Intake(
            self.queue,
            self.usage,
            self._transport,
            self._parse,
            self._penalty_s,
            lambda: bool(self._frames),
        )
        self._rest = Rest(self.queue.rests, self._transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._intake.feed(data)

    def eof_received(self) -> bool:
        if not self._closed:
            self._ws.receive_eof()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._connections.discard(self)
        self._intake.close()
        self._rest.close()
        self._fragments = bytearray()
        self._frames.clear()
        self._ws.reader.buffer.clear()
        if self._closing is not None:
            self._closing.cancel()
        received = self._ws.close_rcvd
        handler, self._handler = self._handler, None
        if handler is not None:
            self._guard(handler.disconnected, received.code if received else None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._handler is not None:
            self._guard(self._handler.resumed)

    # -- parsing -----------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Parse bytes, and handle frames for `STEP_S` seconds; called again for the rest."""
        if data:
            wait_s = self.meter(len(data))
            if wait_s > 0:
                self._not_before = time.monotonic() + wait_s
            for item in self._reader.read(data):
                if isinstance(item, Request):
                    self._handshake(item)
                else:
                    self._frames.append(item)
        end = self.queue.now() + STEP_S
        while self._frames and not self._closed:
            self._frame(self._frames.popleft())
            if self._intake.paused or self._penalty_s() or self.queue.now() > end:
                break
        waits = self._ws.current_size is not None or self._ws.reader.buffer
        if not waits:
            self._unfinished_since = None
        elif self._unfinished_since is None:
            self._unfinished_since = time.monotonic()
        self._write()

    def _frame(self, frame: Frame | bytes) -> None:
        if isinstance(frame, bytes):
            self._count(AUDIO_WEIGHT if len(frame) >= AUDIO_BYTES else 1.0)
            self._is_text = False
            self._received(frame)
            return
        opcode = frame.opcode
        is_audio = opcode is Opcode.BINARY or (opcode is Opcode.CONT and not self._is_text)
        is_large = is_audio and len(frame.data) >= AUDIO_BYTES
        self._count(AUDIO_WEIGHT if is_large else 1.0)
        if opcode is Opcode.BINARY or opcode is Opcode.TEXT:
            self._is_text = opcode is Opcode.TEXT
            if frame.fin:
                self._received(bytes(frame.data))
            else:
                # One buffer: a list of fragments without content would have no bound.
                self._fragments = bytearray(frame.data)
        elif opcode is Opcode.CONT:
            self._fragments += frame.data
            if frame.fin:
                data, self._fragments = bytes(self._fragments), bytearray()
                self._received(data)
        elif opcode is Opcode.PONG:
            self._pinged_at = None

    def _received(self, data: bytes) -> None:
        self._unfinished_since = None
        if self._handler is None or self._closed:
            return
        if not self._is_text:
            self._guard(self._handler.received, data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            self._ws.fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
            return
        self._guard(self._handler.received, text)

    def _count(self, weight: float) -> None:
        """Count a frame against the read limit."""
        now = time.monotonic()
        if now - self._period >= PERIOD_S:
            self._period, self._messages = now, 0.0
        self._messages += weight

    def _penalty_s(self) -> float:
        """Return the seconds until this connection may be read again; 0 if it may now."""
        allowed_at = self._not_before
        if self._messages > MAX_MESSAGES:
            allowed_at = max(allowed_at, self._period + PERIOD_S)
        return max(0.0, allowed_at - time.monotonic()) if allowed_at else 0.0

    # -- handshake, errors, writing ----------------------------------------------------------

    def _handshake(self, request: Request) -> None:
        decision = self._upgrade(self, request)
        if isinstance(decision, Response):
            self._refuse(decision)
            return
        response = self._ws.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(_as_json(response))
            return
        self._ws.send_response(response)
        self._write()
        try:
            self._handler = decision()
        except Exception:
            log.exception("connection failed")
            self.close(CloseCode.INTERNAL_ERROR, "")

    def _select(self, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """Select a subprotocol that the client offers; it may also offer none."""
        return next((Subprotocol(x) for x in self.subprotocols if x in offered), None)

    def keep_alive(self) -> None:
        """Let the system find out when the peer is gone, because nothing is sent to it."""
        keep_alive(self._transport)

    def _refuse(self, response: Response) -> None:
        self._ws.send_response(response)
        self._write()
        self._transport.close()

    def _too_large(self) -> None:
        """Report a message beyond `max_bytes`; the protocol closes with 1009 behind it."""
        if self._handler is not None:
            limit = self.max_bytes
            self._guard(
                self._handler.refused,
                "message_too_large",
                f"a message had more than {limit} bytes; send at most {limit}",
            )

    def _guard(self, callback: Callable[..., None], *args: object) -> None:
        """Call the handler; an exception ends this connection only."""
        try:
            callback(*args)
        except Exception:
            log.exception("connection failed")
            self.close(CloseCode.INTERNAL_ERROR, "")

    def _write(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._end()

    def _end(self) -> None:
        """End our side of the TCP connection, and read on until the peer ends its side.

        A close would reset the connection while the peer still sends, and it would not get the
        close frame.
        """
        if self._transport.can_write_eof() and not self._transport.is_closing():
            with suppress(OSError):  # The peer is gone already.
                self._transport.write_eof()
            if self._closing is None:
                self._closing = self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)
            self.resume()
        else:
            self._transport.close()


class _Protocol(ServerProtocol):
    """websockets' protocol without extensions, and with a callback before it closes with 1009."""

    def __init__(
        self,
        max_bytes: int,
        too_large: Callable[[], None],
        select: Callable[[Sequence[Subprotocol]], Subprotocol | None],
    ) -> None:
        super().__init__(max_size=max_bytes, select_subprotocol=lambda _, offered: select(offered))
        self._report_too_large = too_large

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG:
            self._report_too_large()
            reason = "message_too_large"
        super().fail(code, reason)


def _as_json(response: Response) -> Response:
    """Return the response of `websockets` to an invalid handshake, as other errors are."""
    names = ("Upgrade", "Sec-WebSocket-Version")
    headers = {name: response.headers[name] for name in names if name in response.headers}
    text = (response.body or b"").decode().strip().rstrip(".")
    return Refusal(HTTPStatus(response.status_code), text, headers=headers).response()
