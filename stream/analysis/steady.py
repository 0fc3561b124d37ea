"""Level of a steady sound behind the speech: hum, a tone on the line. Pure."""

from __future__ import annotations

from collections.abc import Sequence

PERIOD = 5
"""Frames over which the level is averaged: 100 ms hold whole periods of 50 and of 60 Hz."""
LENGTH = 20
"""Averages, one per frame, that must agree before the sound counts as steady: 0.4 s."""
SPREAD = 10 ** (0.5 / 10)
"""Ratio of the highest to the lowest of them: 0.5 dB. Noise and voices vary more."""
ABOVE = 10 ** (2 / 10)
"""Ratio to the level of the steady sound up to which a frame holds nothing else: 2 dB."""
DROP = 10 ** (3 / 10)
"""Ratio by which the level must fall below that of the steady sound to end it: 3 dB."""


class SteadyLevel:
    """Level of the steady sound in one channel, by the mean squares of its 20 ms frames.

    Detectors take hum from the first sample on for speech and find no pause in it. The limits are
    compared in docs/performance.md.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the audio before a hole."""
        self._newest = [0.0] * PERIOD
        self._level = self._lowest = self._highest = 0.0
        self._agreeing = 0

    def ceilings(self, power: Sequence[float]) -> list[float]:
        """Return for each frame the mean square that it must exceed to hold more than hum.

        Without a steady sound that is 0.
        """
        level, lowest, highest = self._level, self._lowest, self._highest
        agreeing = self._agreeing
        frames = [*self._newest, *power]
        self._newest = frames[-PERIOD:]
        ceilings = []
        # Comparisons instead of min and max, and no slices: this loop runs for every frame.
        a, b, c, d = frames[1:PERIOD]
        for e in power:
            mean = (a + b + c + d + e) / PERIOD
            a, b, c, d = b, c, d, e
            if mean > highest:
                highest = mean
            elif mean < lowest:
                lowest = mean
            if highest > lowest * SPREAD:
                lowest = highest = mean
                agreeing = 0
            agreeing += 1
            if agreeing >= LENGTH:
                level = mean
            elif mean * DROP < level:
                level = 0.0
            ceilings.append(level * ABOVE)
        self._level, self._lowest, self._highest = level, lowest, highest
        self._agreeing = agreeing
        return ceilings
