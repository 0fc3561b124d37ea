"""Meters that compare the audio of a stream with real time."""

from __future__ import annotations

DRAIN = 1.05
"""Seconds of lead that drain per real second; above 1, because clocks differ."""

MAX_PAUSE_S = 1.0
"""Longest pause in an arrival that still counts as steady."""

BIN_S, BINS = 2.0, 5
UNEVEN = 1.3
"""Most and least audio in the bins of an arrival that is faster than real time, as a ratio.

A live source sends evenly; a file comes as fast as the network and the throttle let it.
"""

SLOW, FAST, FASTEST = 0.75, 1.3, 13.0
"""Seconds of audio per second from which a rate is looked into: 192 kHz sent as 16 kHz are 12."""

LONG = 6
"""Checks after which a small deviation is looked into: 44.1 kHz sent as 48 kHz are 0.92."""

CLOSE, STEADY = 0.03, 0.1
"""Deviation of clocks that differ, and range of the speeds of an even arrival, over `LONG`."""


class RealtimeMeter:
    """Leaky bucket over the audio of one stream. Times are monotonic seconds.

    The lead of a late producer is zero, never negative: a burst after a stall counts as ahead of
    real time, so it is scored as fast as the backend can and is not dropped as overdue.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._last: float | None = None

    def add(self, duration_s: float, now: float) -> float:
        """Add a chunk that arrived at `now`; return the seconds ahead of real time."""
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._ahead = max(0.0, self._ahead - passed * DRAIN) + duration_s
        return self._ahead

    def advance(self, seconds: float) -> None:
        """Take `seconds` off the lead: so much audio was processed before its time."""
        self._ahead = max(0.0, self._ahead - seconds)


class ArrivalMeter:
    """Meter of the speed at which audio arrives, before any throttle. Times as above."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew: the producer paused, or was not read."""
        self._last: float | None = None
        self._since = 0.0
        self._bins: list[float] = []
        self._speeds: list[float] = []

    def add(self, duration_s: float, now: float) -> float | None:
        """Add a chunk that arrived at `now`; return the speed if it points to a wrong format.

        The speed is in seconds of audio per second: below 0.75, or evenly between 1.3 and 13, over
        10 s; or evenly a little beside 1 over 60 s. Producers that declare 16 kHz and send 8 kHz
        have 0.5.
        """
        if self._last is None or now - self._last > MAX_PAUSE_S:
            self.restart()
            self._since = now
        self._last = now
        speed = self._check(now)
        if now - self._since >= BIN_S * len(self._bins):
            self._bins.append(0.0)
        self._bins[-1] += duration_s
        return speed

    def _check(self, now: float) -> float | None:
        passed = now - self._since
        if passed < BIN_S * BINS:
            return None
        speed = sum(self._bins) / passed
        even = max(self._bins) <= UNEVEN * min(self._bins)
        self._bins, self._since = [], now
        self._speeds.append(speed)
        if speed < SLOW or (FAST <= speed <= FASTEST and even):
            return speed
        if len(self._speeds) < LONG:
            return None
        speeds, self._speeds = self._speeds, []
        mean = sum(speeds) / LONG
        steady = max(speeds) - min(speeds) <= STEADY
        return mean if steady and SLOW <= mean <= FAST and abs(mean - 1) > CLOSE else None
