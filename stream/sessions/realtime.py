"""How far a producer's audio is ahead of real time, and whether its rate can be true."""

from __future__ import annotations

DRAIN = 1.05
"""Clocks differ: being ahead wears off at this share of real time."""

RATE_CHECK_S = 10.0
LONGEST_PAUSE_S = 1.0


class RealtimeMeter:
    """A leaky bucket over one stream's audio. Times are monotonic seconds.

    A producer that was late starts again from zero: a burst after a stall counts as ahead, so it
    is scored as fast as the backend can and not thrown away as overdue.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._last: float | None = None
        self._checked_since = 0.0
        self._heard = 0.0

    def take(self, duration_s: float, now: float) -> float:
        """Account for a chunk that arrived at `now`; returns the seconds ahead of real time."""
        if self._last is None:
            self._last = self._checked_since = now
        passed = now - self._last
        self._last = now
        if passed > LONGEST_PAUSE_S:
            self._checked_since, self._heard = now, 0.0
        self._heard += duration_s
        self._ahead = max(0.0, self._ahead - passed * DRAIN) + duration_s
        return self._ahead

    def suspicious_rate(self) -> float | None:
        """Audio seconds per real second, when 10 s of steady arrival show far less than 1.

        Producers that declare 16 kHz and send 8 kHz look like this: half of real time.
        """
        if self._last is None or self._last - self._checked_since < RATE_CHECK_S:
            return None
        ratio = self._heard / (self._last - self._checked_since)
        self._checked_since, self._heard = self._last, 0.0
        return ratio if ratio < 0.75 else None
