"""Meter that compares the audio of a stream with real time."""

from __future__ import annotations

DRAIN = 1.05
"""Seconds of lead that drain per real second; above 1, because clocks differ."""

RATE_CHECK_S = 10.0
MAX_PAUSE_S = 1.0
MIN_RATE_RATIO = 0.75


class RealtimeMeter:
    """Leaky bucket over the audio of one stream. Times are monotonic seconds.

    The lead of a late producer is zero, never negative: a burst after a stall counts as ahead of
    real time, so it is scored as fast as the backend can and is not dropped as overdue.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._last: float | None = None
        self._checked_since = 0.0
        self._received = 0.0

    def add(self, duration_s: float, now: float) -> float:
        """Add a chunk that arrived at `now`; return the seconds ahead of real time."""
        if self._last is None:
            self._last = self._checked_since = now
        passed = now - self._last
        self._last = now
        if passed > MAX_PAUSE_S:
            self._checked_since, self._received = now, 0.0
        self._received += duration_s
        self._ahead = max(0.0, self._ahead - passed * DRAIN) + duration_s
        return self._ahead

    def suspicious_rate(self) -> float | None:
        """Return audio seconds per real second if 10 s of steady arrival show less than 0.75.

        Producers that declare 16 kHz and send 8 kHz have a ratio of 0.5.
        """
        if self._last is None or self._last - self._checked_since < RATE_CHECK_S:
            return None
        ratio = self._received / (self._last - self._checked_since)
        self._checked_since, self._received = self._last, 0.0
        return ratio if ratio < MIN_RATE_RATIO else None
