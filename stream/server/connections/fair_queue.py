"""Fair queue for the event loop's time, so that no connection keeps the others waiting.

A connection that uses little of the event loop's time is served at once. All others wait in one
queue, in the order of arrival, and together get a limited share of the time in short slices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from stream.server.connections.rests import Rests

log = logging.getLogger(__name__)

ALLOWANCE = 0.01
"""Share of the event loop's time below which a connection is served at once.

A live stream takes 0.2 to 0.5 %.
"""

BURST_S = 0.02
"""Seconds of allowance that a connection can save. A new connection has none."""

DEBT_S = 0.2
"""Seconds of excess that are remembered."""

LIGHT_S = 0.004
"""Seconds of work for connections within their allowance, after which other callbacks run."""

SLICE_S, SHARE = 0.002, 0.5
"""Longest slice for connections beyond their allowance, and their share of the time."""

Step = Callable[[], bool]
"""A few milliseconds of work at most; returns whether there is more."""


class Usage:
    """Use of the event loop by one connection, against its allowance."""

    __slots__ = ("_at", "_credit_s")

    def __init__(self, now: float) -> None:
        self._at = now
        self._credit_s = 0.0

    def is_light(self, now: float) -> bool:
        """Return whether the connection is within its allowance at `now` (seconds)."""
        self._credit_s = min(BURST_S, self._credit_s + (now - self._at) * ALLOWANCE)
        self._at = now
        return self._credit_s > 0

    def spend(self, seconds: float) -> None:
        """Count time that the connection has used."""
        self._credit_s = max(-DEBT_S, self._credit_s - seconds)


class FairQueue:
    """Calls the steps of all connections. `clock` returns seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._clock = clock
        self.rests = Rests(self._loop)
        self._light: deque[tuple[Usage, Step]] = deque()
        self._heavy: deque[tuple[Usage, Step]] = deque()
        self._heavy_at = clock()
        """Time of the next slice for connections beyond their allowance."""
        self._light_s = 0.0
        """Seconds used by the others since `_run`, which begins an iteration of the event loop."""
        self._is_slice_over = False
        self._next: asyncio.Handle | None = None

    def now(self) -> float:
        """Return the time of the queue's clock, in seconds."""
        return self._clock()

    def usage(self) -> Usage:
        """Return the usage of a new connection."""
        return Usage(self._clock())

    def run_later(self, usage: Usage, step: Step) -> None:
        """Call `step` in a later iteration of the event loop; see `run`."""
        now = self._clock()
        self._append(usage, step, now)
        self._schedule(now)

    def run(self, usage: Usage, step: Step) -> None:
        """Call `step` now or later, and again as long as it returns True."""
        now = self._clock()
        if not usage.is_light(now):
            if self._heavy or now < self._heavy_at:
                self._append(usage, step, now)
            else:
                self._rest_after(now, self._serve(usage, step, now))
        elif self._light or self._light_s > LIGHT_S:
            self._append(usage, step, now)
        else:
            self._light_s += self._serve(usage, step, now) - now
        self._schedule(now)

    def run_at_once(self, usage: Usage, work: Callable[[bytes], None], data: bytes) -> bool:
        """Call `work` with `data` and return True, or return False if the connection has to wait.

        It does the same as `run` for the common case, a live stream's message, in half the time.
        """
        begin = self._clock()
        if self._light or self._light_s > LIGHT_S or not usage.is_light(begin):
            return False
        try:
            work(data)
        finally:
            used_s = self._clock() - begin
            usage.spend(used_s)
            self._light_s += used_s
        return True

    def end_slice(self) -> None:
        """End the slice with this step, which started work in a task; see `charge`."""
        self._is_slice_over = True

    def charge(self, usage: Usage, seconds: float) -> None:
        """Count work that was done for a connection outside of its steps."""
        now = self._clock()
        usage.spend(seconds)
        if not usage.is_light(now):
            self._rest_after(max(now, self._heavy_at) - seconds, max(now, self._heavy_at))

    def _serve(self, usage: Usage, step: Step, begin: float) -> float:
        """Call a step, queue it again if there is more, and return the time after it."""
        try:
            more = step()
        except Exception:
            log.exception("connection failed")
            more = False
        end = self._clock()
        usage.spend(end - begin)
        if more:
            self._append(usage, step, end)
        return end

    def _append(self, usage: Usage, step: Step, now: float) -> None:
        (self._light if usage.is_light(now) else self._heavy).append((usage, step))

    def _run(self) -> None:
        self._next = None
        # Not at every iteration: a callback for it would cost as much as a small message.
        self._light_s = 0.0
        begin = now = self._clock()
        while self._light and now - begin < LIGHT_S:
            now = self._serve(*self._light.popleft(), now)
        if self._heavy and now >= self._heavy_at:
            begin = now
            self._is_slice_over = False
            while self._heavy and now - begin < SLICE_S and not self._is_slice_over:
                now = self._serve(*self._heavy.popleft(), now)
            self._rest_after(begin, now)
        self._schedule(now)

    def _rest_after(self, begin: float, end: float) -> None:
        """Leave the rest of the time to others after a slice."""
        self._heavy_at = end + (end - begin) * (1 / SHARE - 1)

    def _schedule(self, now: float) -> None:
        if self._next is not None:
            return
        if self._light:
            self._next = self._loop.call_soon(self._run)
        elif self._heavy:
            self._next = self._loop.call_later(max(0.0, self._heavy_at - now), self._run)
