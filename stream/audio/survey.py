"""Levels and length of a whole recording, measured before it is analysed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.audio.samples import Block, mixed

LEVEL_S = 0.4
"""Seconds over which the level of the loudest part is taken."""

SILENT_DBFS = -60.0
"""A channel whose loudest part is below this level is silent; no detector finds speech there."""

HIGHEST = 0.99
"""Peak to which a recording above full scale is lowered: -0.1 dBFS."""

ALIKE_SHARE, ALIKE_STEPS = 0.01, 2 / 32_768
"""Two channels are alike if they differ by 40 dB less than the peak, or by two steps of int16."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Measured levels. `levels_dbfs` are those of the loudest 0.4 s of every channel.

    `peak` is the highest magnitude of the audio that is analysed, full scale = 1. `mix_gain` brings
    the mean of all channels to the level of the loudest one.
    """

    seconds: float
    levels_dbfs: tuple[float, ...]
    peak: float
    mix_gain: float
    alike: bool

    @property
    def gain(self) -> float:
        """Factor that keeps the audio within the range of int16; 1 if it is."""
        return HIGHEST / self.peak if self.peak > 1 else 1.0


class Survey:
    """Meter of a recording with `channels` channels at `rate` Hz."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._mixes = channels > 2
        self._alike = channels == 2
        self._energy = np.zeros(channels)
        self._mix_energy = 0.0
        self._peak = 0.0
        self._part = np.zeros(channels)
        self._part_samples = 0
        self._loudest = np.zeros(channels)
        self.samples = 0

    @property
    def seconds(self) -> float:
        return self.samples / self._rate

    def add(self, block: Block) -> None:
        """Measure the next block, float32[samples, channels]."""
        self.samples += len(block)
        energy = np.einsum("ij,ij->j", block, block, dtype=np.float64)
        self._energy += energy
        self._part += energy
        self._part_samples += len(block)
        if self._part_samples >= LEVEL_S * self._rate:
            self._end_part()
        heard = block
        if self._mixes:
            heard = mixed(block)
            self._mix_energy += float(np.einsum("ij,ij->", heard, heard, dtype=np.float64))
        peak = max(float(heard.max(initial=0)), -float(heard.min(initial=0)))
        self._peak = max(self._peak, peak)
        if self._alike:
            difference = np.abs(block[:, 0] - block[:, 1]).max(initial=0)
            self._alike = bool(difference <= max(ALIKE_STEPS, peak * ALIKE_SHARE))

    def levels(self) -> Levels:
        """Return the levels of what was added."""
        if self._part_samples:
            self._end_part()
        gain = 1.0
        if self._mix_energy > 0:
            gain = math.sqrt(float(self._energy.max()) / self._mix_energy)
            # Channels in opposite phase cancel each other: what is left is noise.
            gain = min(gain, float(len(self._energy)))
        levels = tuple(
            round(max(-96.0, 10 * math.log10(power)), 1) if power > 0 else -96.0
            for power in self._loudest.tolist()
        )
        return Levels(self.seconds, levels, self._peak * gain, gain, self._alike)

    def _end_part(self) -> None:
        self._loudest = np.maximum(self._loudest, self._part / self._part_samples)
        self._part = np.zeros_like(self._part)
        self._part_samples = 0


def sides(levels_dbfs: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return the numbers of the silent and of the other channels."""
    silent = [n for n, level in enumerate(levels_dbfs) if level < SILENT_DBFS]
    return silent, [n for n in range(len(levels_dbfs)) if n not in silent]
