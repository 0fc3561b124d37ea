"""Audio that is ahead of real time: the memory that it may take, and how fast it catches up.

A producer that sends a file is read at once, because its pings stand behind its audio. A server
that does not read the audio does not answer the pings, and most clients hang up after 40 s.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

PERIOD_S = 0.1
LATE_S = 0.05
"""Lateness of the timer from which the event loop counts as busy, and nothing catches up."""


class Waiting(Protocol):
    """Input that holds audio which is ahead of real time."""

    def advance(self, seconds: float) -> bool:
        """Process what is due within `seconds`; return whether more waits for real time."""
        ...


class Ahead:
    """Share of all streams of a process in `max_bytes` of audio, and in the `speed` to catch up.

    `speed` is in seconds of audio per second, beyond real time, over all streams together. So a
    fast file costs no more than that many calls, however many producers send one. Use on one event
    loop.
    """

    def __init__(self, max_bytes: int, speed: float) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        """Bytes held now, beyond those that every stream may hold."""
        self._speed = speed
        self._waiting: dict[Waiting, None] = {}
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def has_room(self, held: int, share: float = 1.0) -> bool:
        """Return whether a stream that holds `held` of the bytes may hold more: at most half.

        With a `share` below 1, only that share of the memory counts.
        """
        most = self.max_bytes * share
        return self.bytes < most and held < most / 2

    def add(self, waiting: Waiting) -> None:
        """Let an input catch up until nothing of it waits any more."""
        if self._speed:
            self._waiting[waiting] = None
            if self._timer is None:
                self._start()

    def remove(self, waiting: Waiting) -> None:
        """Forget an input."""
        self._waiting.pop(waiting, None)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + PERIOD_S
        self._timer = loop.call_at(self._due, self._run)

    def _run(self) -> None:
        self._timer = None
        if asyncio.get_running_loop().time() - self._due < LATE_S:
            share = self._speed * PERIOD_S / max(1, len(self._waiting))
            for waiting in list(self._waiting):
                if not waiting.advance(share):
                    self.remove(waiting)
        if self._waiting:
            self._start()
