"""Rests of connections between two reads, so that one read returns several small messages.

A read of the socket and the call for it cost more than a message of 20 ms of audio that comes with
others. The messages wait in the system's buffer meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

REST_S = 0.06
"""Seconds without a read: three messages of 20 ms."""

OFTEN_S = 1.5 * REST_S
"""Seconds between two reads below which a connection rests: messages of 100 ms are read at once."""

SMALL = 4_096
"""Bytes of a read below which it counts as small messages: 128 ms of linear16 at 16 kHz."""

IN_VAIN = 3
"""Rests in a row, each with a single message after it, that are a connection's last."""

SLACK_S = 0.005
"""Seconds by which a rest may end early, together with others."""


class Rests:
    """The ends of all rests of one event loop, with a single timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, end: Callable[[], None]) -> None:
        """Call `end` after `REST_S` seconds."""
        self._ends.append((self._loop.time() + REST_S, end))
        if self._timer is None:
            self._timer = self._loop.call_later(REST_S, self._run)

    def _run(self) -> None:
        self._timer = None
        due = self._loop.time() + SLACK_S
        while self._ends and self._ends[0][0] <= due:
            self._ends.popleft()[1]()
        if self._ends:
            self._timer = self._loop.call_at(self._ends[0][0], self._run)


class RestDecider:
    """Decision of one connection whether to rest after a read, by the sizes and times of reads.

    A peer that waits for an answer to each message sends nothing meanwhile; it would be slowed
    down, so its connection rests no more after `IN_VAIN` rests that brought no other message.
    """

    __slots__ = ("_in_vain", "_last", "_rested", "_size")

    def __init__(self) -> None:
        self._last = float("-inf")
        self._size = 0
        self._in_vain = 0
        self._rested = False

    def rests_after(self, size: int, now: float) -> bool:
        """Return whether to rest after a read of `size` bytes at `now` (seconds)."""
        if self._in_vain >= IN_VAIN:
            return False
        if self._rested and size >= 2 * self._size:
            self._in_vain = 0
        else:
            self._in_vain += self._rested
            self._size = size
        often, self._last = now - self._last < OFTEN_S, now
        self._rested = often and size < SMALL
        return self._rested
