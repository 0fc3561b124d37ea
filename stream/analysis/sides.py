"""Sound of a live stream on channels that are not analysed, while the analysed ones are silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SILENT = 10 ** (-60 / 10)
"""Mean square below which a channel is silent: -60 dBFS, the least level of the VAD."""

LOUD = 10 ** (-45 / 10)
"""Mean square from which a channel has sound: -45 dBFS."""

AFTER_S = 20.0
"""Seconds of sound elsewhere after which the sides are taken for swapped, or a line for dead.

Pauses do not count, so that a greeting of half a minute is no reason.
"""


class SideMeter:
    """Compares the level of analysed channels with that of others. Keeps no audio."""

    def __init__(self, rate: int, channels: int, analysed: Sequence[int]) -> None:
        self._rate = rate
        self._analysed = list(analysed)
        self._others = [number for number in range(channels) if number not in self._analysed]
        self._decided = not self._others
        self._loud = np.zeros(len(self._others))
        self.voice_on: int | None = None
        """Channel that has all the sound, once that is certain."""

    def add(self, samples: NDArray[np.float32]) -> None:
        """Measure float32[channels, n]; does nothing once an analysed channel had sound."""
        count = samples.shape[1]
        if self._decided or not count:
            return
        power = np.einsum("ij,ij->i", samples, samples) / count
        if power[self._analysed].max() >= SILENT:
            self._decided = True
            return
        self._loud += np.where(power[self._others] >= LOUD, count / self._rate, 0.0)
        if self._loud.max() >= AFTER_S:
            self._decided = True
            self.voice_on = self._others[int(self._loud.argmax())]
