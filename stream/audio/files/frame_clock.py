"""Places decoded frames on the timeline of their container. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_S = 0.1
"""Difference between time stamp and position that is not corrected; containers round to 1 ms."""

MAX_HOLE_S = 3_600.0
"""Longest hole in the time stamps that becomes silence; a longer one is a faulty clock."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Corrections of one recording.

    Holes in the time stamps became silence: how many, and how many seconds in all. `jumps` are
    holes that were not filled, because no recording has them; `restarts` are returns to an earlier
    time, as in joined files, after which the sound goes on without a hole.
    """

    holes: int = 0
    silence_s: float = 0.0
    jumps: int = 0
    restarts: int = 0


class FrameClock:
    """Timeline of one recording; all times are in seconds.

    `origin_s` is the time stamp of its beginning: what is earlier begins there. Silence never makes
    the recording longer than `max_s`.
    """

    def __init__(self, origin_s: float, max_s: float = MAX_HOLE_S) -> None:
        self._max_s = max_s
        self._expected = self._origin = origin_s
        """Time stamp at which the next frame continues the one before."""
        self._shift = -origin_s
        """Position in the output minus time stamp."""
        self._position = 0.0
        self._began = False
        self.timing = Timing()

    def place(self, start_s: float | None, length_s: float) -> float:
        """Return the silence before a frame that begins at `start_s`; None continues the last."""
        silence = 0.0
        if start_s is not None:
            silence = self._silence(start_s)
            self._expected = start_s
        self._began = True
        self._expected += length_s
        self._position += silence + length_s
        return silence

    def _silence(self, start_s: float) -> float:
        jump = start_s - self._expected
        limit = min(MAX_HOLE_S, self._max_s - self._position)
        timing = self.timing
        if jump < -TOLERANCE_S or jump > max(limit, TOLERANCE_S):
            self._shift -= jump
            first = not self._began and jump < 0
            self.timing = Timing(
                timing.holes,
                timing.silence_s,
                timing.jumps + (jump > 0),
                timing.restarts + (jump < 0 and not first),
            )
        silence = start_s + self._shift - self._position
        if silence <= TOLERANCE_S:
            return 0.0
        silence = min(silence, max(0.0, limit))
        timing = self.timing
        total = round(timing.silence_s + silence, 3)
        self.timing = Timing(timing.holes + 1, total, timing.jumps, timing.restarts)
        return silence
