"""Talk of one channel: spans in which its speaker talks, from the decisions of the VAD. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum

from stream.types import FRAME

BRIDGED = 10
"""Frames of a pause that ends a span of talk: 200 ms; shorter ones belong to it (ITU-T P.59)."""

LEAST_VOICED = 5
"""Voiced frames of the shortest span of talk: 100 ms. Clicks are shorter."""


class Activity(IntEnum):
    """State of a channel at a position."""

    SILENT = 0
    TALKING = 1
    UNHEARD = 2
    """There was no audio: the producer was paused, or audio was discarded."""


class TalkDetector:
    """Former of spans of talk from frame decisions; positions are in samples.

    A span begins and ends with a voiced frame. What it is up to `settled` is known and final;
    `changes` has the positions at which the activity changes, oldest first, until it is read.
    """

    def __init__(self) -> None:
        self.position = 0
        self.changes: deque[tuple[int, Activity]] = deque()
        self._start = 0
        """Position at which the span that is forming, or open, begins."""
        self._voiced = self._silent = 0
        """Frames of that span that are voiced; frames since its last voiced one."""
        self._open = False

    @property
    def settled(self) -> int:
        """Position up to which no later frame changes the activity."""
        if not self._voiced:
            return self.position
        return self.position - self._silent * FRAME if self._open else self._start

    def push(self, decisions: Sequence[bool]) -> None:
        """Process the decisions on the next frames."""
        first, count = decisions[0], len(decisions)
        if decisions.count(first) == count:
            self._advance(first, count)
            return
        for voiced in decisions:
            self._advance(voiced, 1)

    def _advance(self, voiced: bool, frames: int) -> None:
        if voiced:
            if not self._voiced:
                self._start = self.position
            self._voiced += frames
            self._silent = 0
            if not self._open and self._voiced >= LEAST_VOICED:
                self._open = True
                self.changes.append((self._start, Activity.TALKING))
        elif self._voiced:
            self._silent += frames
        self.position += frames * FRAME
        if self._silent >= BRIDGED:
            self.close()

    def close(self) -> None:
        """End the span that is open, with its last voiced frame."""
        if self._open:
            self.changes.append((self.position - self._silent * FRAME, Activity.SILENT))
        self._open, self._voiced, self._silent = False, 0, 0

    def jump(self, position: int) -> None:
        """Continue at `position` (a frame boundary) after a hole in the audio."""
        self.close()
        if position > self.position:
            self.changes.append((self.position, Activity.UNHEARD))
            self.changes.append((position, Activity.SILENT))
            self.position = position
