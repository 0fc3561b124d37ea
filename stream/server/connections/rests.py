"""Rests of connections: the socket is not read until the messages expected by then have arrived.

Reading the socket costs more than processing a message of 20 ms of audio, so several are read at
once. During a rest they wait in the system's buffer, and the system reports the socket as readable
only with enough bytes (SO_RCVLOWAT, socket(7)), at the end of the stream, or after an error.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

MOST_BYTES = 4_096
"""Most bytes that a rest waits for: half a second of telephone audio."""

TLS_BYTES = 22
"""Bytes that a record of TLS 1.3 adds to a message (RFC 8446, section 5.2)."""

SLACK_S = 0.005
"""Seconds by which a rest may end early, so that one timer ends several."""


class Rests:
    """The ends of all rests of one event loop, with a single timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: list[tuple[float, int, Rest]] = []
        self._numbers = count()
        """Makes the entries of the heap comparable."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def now(self) -> float:
        """Return the time of the event loop, in seconds."""
        return self._loop.time()

    def add(self, rest: Rest, end: float) -> None:
        """Call `rest.expire` at `end`."""
        heappush(self._ends, (end, next(self._numbers), rest))
        if self._timer is None or end < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._ends[0][0]
        self._timer = self._loop.call_at(self._timer_at, self._run)

    def _run(self) -> None:
        self._timer = None
        due = self._loop.time() + SLACK_S
        while self._ends and self._ends[0][0] <= due:
            heappop(self._ends)[2].expire(due)
        if self._ends and self._timer is None:
            self._set_timer()


class Rest:
    """Rest of one connection; it has at most one entry in `rests`."""

    __slots__ = ("_bytes", "_end", "_extra", "_has_timer", "_rests", "_socket", "_transport")

    def __init__(self, rests: Rests, transport: asyncio.Transport) -> None:
        self._rests = rests
        self._transport = transport
        secure = transport.get_extra_info("ssl_object") is not None
        self._extra = TLS_BYTES if secure else 0
        self._bytes = 1
        """Bytes with which the system reports the socket as readable."""
        self._end = 0.0
        self._has_timer = False
        self._socket: socket.socket | None = None

    def begin(self, messages: int, size: int, seconds: float) -> None:
        """Wait until `messages` of about `size` bytes have arrived, but not longer than `seconds`.

        One message ends the rest.
        """
        if messages < 2:
            self._wait_for(1)
            return
        length = size + self._extra
        messages = min(messages, MOST_BYTES // max(1, length))
        # Half a message less, so that none is waited for if they are a little smaller.
        self._wait_for(max(1, messages * length - length // 2))
        self._end = self._rests.now() + seconds
        if not self._has_timer:
            self._has_timer = True
            self._rests.add(self, self._end)

    def close(self) -> None:
        """Forget the socket, which belongs to the transport; call when the connection is lost."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def expire(self, now: float) -> None:
        """End the rest if its time is over; else wait on. Called by `Rests`."""
        self._has_timer = False
        if self._bytes == 1:
            return
        if self._end > now:
            self._has_timer = True
            self._rests.add(self, self._end)
        else:
            self._wait_for(1)

    def _wait_for(self, size: int) -> None:
        if size == self._bytes or self._transport.is_closing():
            return
        self._bytes = size
        if self._socket is None:
            self._socket = self._own_socket()
        # Some systems do not have the option; then every message is read at once.
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _own_socket(self) -> socket.socket:
        """Return an object for the transport's socket; uvloop would make one for every call."""
        theirs = self._transport.get_extra_info("socket")
        return socket.socket(theirs.family, theirs.type, theirs.proto, theirs.fileno())
