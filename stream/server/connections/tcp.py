"""One TCP connection as a transport: messages are pieces of bytes, put together by the dialect.

There is no closing handshake: the end of the peer's bytes is its orderly close.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from stream.delivery.transport import Handler, Message
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.intake import Intake
from stream.server.connections.keepalive import keep_alive
from stream.server.connections.rests import Rest

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
"""Seconds for the peer to read what was sent, before the connection is dropped."""

NORMAL = 1000
"""The close code that handlers get for an orderly close (RFC 6455 7.4.1)."""


class TcpConnection(asyncio.Protocol):
    """A `Transport` on one TCP connection.

    `serve` makes its handler once it is connected, or returns None if it aborted the connection.
    """

    def __init__(
        self,
        serve: Callable[[TcpConnection], Handler | None],
        connections: set[TcpConnection],
        queue: FairQueue | None = None,
    ) -> None:
        self._serve = serve
        self._queue = queue or FairQueue()
        self._intake: Intake
        self._rest: Rest
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._handler: Handler | None = None
        self._writing_paused = False
        self._ended = False
        self._closing: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        """Time before which the quota of the key allows no more bytes (monotonic seconds)."""
        self.meter: Callable[[int], float] = lambda size: 0.0
        """Counts received bytes; returns the seconds for which no more may be read."""
        self.peer = ""

    # -- Transport ---------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        return not self._writing_paused or self._transport.is_closing()

    def send(self, message: Message) -> None:
        if not self._transport.is_closing():
            self._transport.write(message.encode() if isinstance(message, str) else message)

    def close(self, code: int, reason: str) -> None:
        if not self._transport.is_closing():
            self._transport.close()
            self._closing = self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def abort(self) -> None:
        self._transport.abort()

    def pause(self) -> None:
        self._intake.pause()

    def resume(self) -> None:
        self._intake.resume()

    def rest(self, messages: int, size: int, seconds: float) -> None:
        self._rest.begin(messages, size, seconds)

    def keep_alive(self) -> None:
        """Let the system find out when the peer is gone, because nothing is sent to it."""
        keep_alive(self._transport)

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._intake = Intake(
            self._queue, self._queue.usage(), self._transport, self._parse, self._penalty_s
        )
        self._rest = Rest(self._queue.rests, self._transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        self._connections.add(self)
        self._guard(self._start)

    def data_received(self, data: bytes) -> None:
        self._intake.feed(data)

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._intake.close()
        self._rest.close()
        if self._closing is not None:
            self._closing.cancel()
        handler, self._handler = self._handler, None
        if handler is not None:
            self._guard(handler.disconnected, NORMAL if self._ended else None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._handler is not None:
            self._guard(self._handler.resumed)

    def _parse(self, data: bytes) -> None:
        wait_s = self.meter(len(data))
        if wait_s > 0:
            self._not_before = time.monotonic() + wait_s
        if self._handler is not None:
            self._guard(self._handler.received, data)

    def _penalty_s(self) -> float:
        """Return the seconds until this connection may be read again; 0 if it may now."""
        return max(0.0, self._not_before - time.monotonic()) if self._not_before else 0.0

    def _start(self) -> None:
        self._handler = self._serve(self)

    def _guard(self, callback: Callable[..., None], *args: object) -> None:
        """Call the handler; an exception ends this connection only."""
        try:
            callback(*args)
        except Exception:
            log.exception("connection failed")
            self._transport.abort()
