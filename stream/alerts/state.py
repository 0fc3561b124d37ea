"""State of one rule on one channel: when an alert begins and ends. Pure; time is audio."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream.protocol.wire.alerts import AlertEnd, AlertState
from stream.types import SAMPLE_RATE

UPDATE = 10 * SAMPLE_RATE
"""Samples between two updates of an open alert."""

STALE = 30 * SAMPLE_RATE
"""Samples without a value that can be judged after which an alert ends."""

GAP = 10 * SAMPLE_RATE
"""Samples without such a value after which a condition has not held without a break."""


@dataclass(frozen=True, slots=True)
class Change:
    """Step of an alert: its number in the stream's rule, its value, its highest value so far.

    `since` is where the condition began to hold, `at` the position of the step.
    """

    state: AlertState
    number: int
    value: float
    peak: float
    since: int
    at: int
    reason: AlertEnd | None = None


class RuleState:
    """State machine of one rule: clear, pending, open, cooling down.

    The levels form a hysteresis: an alert opens from `above` on and ends below `clear_below`.
    """

    def __init__(
        self, above: float, clear_below: float, hold: int, cooldown: int, stale: int = STALE
    ) -> None:
        """Take `hold` and `cooldown` in samples; 0 `stale` means that no value is awaited."""
        self._above, self._clear_below = above, clear_below
        self._hold, self._cooldown, self._stale = hold, cooldown, stale
        self._pending: int | None = None
        """Position at which the condition began to hold; None while an alert is open."""
        self._opened: Change | None = None
        """The newest step of the open alert."""
        self._judged = 0
        self._cool_until = 0
        self._number = 0

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    def observe(self, at: int, value: float) -> Change | None:
        """Process a value that can be judged; return the step that it causes, if any."""
        broken = at - self._judged > GAP
        self._judged = at
        if self._opened is not None:
            return self._observe_open(self._opened, at, value)
        if value < self._above:
            self._pending = None
            return None
        if self._pending is None or (broken and self._stale):
            self._pending = at
        if at - self._pending < self._hold or at < self._cool_until:
            return None
        since, self._pending = self._pending, None
        self._number += 1
        self._opened = Change("new", self._number, value, value, since, at)
        return self._opened

    def _observe_open(self, opened: Change, at: int, value: float) -> Change | None:
        peak = max(opened.peak, value)
        if value < self._clear_below:
            return self._end(opened, at, value, "cleared")
        if at - opened.at < UPDATE:
            if peak > opened.peak:
                # The time of the last step stays, or updates would never be due.
                self._opened = replace(opened, peak=peak)
            return None
        self._opened = Change("update", opened.number, value, peak, opened.since, at)
        return self._opened

    def tick(self, at: int) -> Change | None:
        """End the open alert if no value could be judged for `stale` samples."""
        if self._opened is None or not self._stale or at - self._judged < self._stale:
            return None
        return self.end(at, "no_speech")

    def end(self, at: int, reason: AlertEnd) -> Change | None:
        """End the open alert, if there is one."""
        self._pending = None
        opened = self._opened
        return None if opened is None else self._end(opened, at, opened.value, reason)

    def _end(self, opened: Change, at: int, value: float, reason: AlertEnd) -> Change:
        self._opened = None
        self._cool_until = at + self._cooldown
        return Change("end", opened.number, value, opened.peak, opened.since, at, reason)
