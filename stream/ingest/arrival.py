"""Silence of producers that send nothing while nothing is said: the time between messages. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable

LATE_S = 0.2
"""Audio that comes later than this, beyond its own length, had silence before it."""

WAIT_S = 0.5
"""Time without audio after which silence is counted before more audio has come."""


class ArrivalClock:
    """Compares the audio of a call with the time in which it came.

    Asterisk sends no frames while nothing is played or said, so only the time of arrival shows
    where in the call a frame belongs. `clock` returns seconds.
    """

    def __init__(self, sample_rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = sample_rate
        self._clock = clock
        self._begin: float | None = None
        self._samples = 0
        """Samples of the call so far, silence included."""

    def begin(self) -> None:
        """Start the time of the call; otherwise it starts with its first audio."""
        self._begin = self._clock()

    def silence_before(self, samples: int) -> int:
        """Count audio that has just come; return the samples of silence before it."""
        if self._begin is None:
            # The first frame was recorded before it came.
            self._begin = self._clock() - samples / self._rate
        silence = self._behind() - samples
        if silence < LATE_S * self._rate:
            silence = 0
        self._samples += silence + samples
        return silence

    def silence_now(self) -> int:
        """Return the samples of silence to count although no audio has come."""
        if self._begin is None or self._behind() < WAIT_S * self._rate:
            return 0
        silence = self._behind() - int(LATE_S * self._rate)
        self._samples += silence
        return silence

    def _behind(self) -> int:
        assert self._begin is not None
        return round((self._clock() - self._begin) * self._rate) - self._samples
