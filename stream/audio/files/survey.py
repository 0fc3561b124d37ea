"""Levels and length of a whole recording, measured before it is analysed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.audio.same_voice import ChannelComparison
from stream.audio.samples import Block, mixed

LEVEL_S = 0.4
"""Seconds over which the level of the loudest part is taken."""

SILENT_DBFS = -60.0
"""A channel whose loudest part is below this level is silent; no detector finds speech there."""

HIGHEST = 0.99
"""Peak to which a recording above full scale is lowered: -0.1 dBFS."""

FAINT_DBFS, RAISED_DBFS = -40.0, -20.0
"""A recording whose loudest part is below the first level is raised until that is at the second."""

FAINTEST_DBFS = -85.0
"""A recording below this level is not raised: in 16 bits little but rounding noise is left."""

SHORT_S, CLEAN_DB = 0.1, 8.0
"""A recording is raised only if a tenth of its short parts is this much below the loudest part.

Speech has pauses, while the noise of a room in which nobody speaks must not become loud."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Measured levels. `levels_dbfs` are those of the loudest 0.4 s of every channel.

    `peak` is the highest magnitude of the audio that is analysed, full scale = 1. `mix_gain` brings
    the mean of all channels to the level of the loudest one. `background_dbfs` is the level below
    which a tenth of the recording lies. `alike` says that both channels carry the same voice, best
    on channel `best`.
    """

    seconds: float
    levels_dbfs: tuple[float, ...]
    peak: float
    mix_gain: float
    alike: bool
    best: int = 0
    background_dbfs: float = 0.0

    @property
    def gain(self) -> float:
        """Factor that brings the audio into the range of int16, and faint audio to a usual level.

        It is 1 for audio that needs neither.
        """
        if self.peak > 1:
            return HIGHEST / self.peak
        loudest = max(self.levels_dbfs)
        is_clean = loudest - self.background_dbfs >= CLEAN_DB
        if not (FAINTEST_DBFS <= loudest < FAINT_DBFS and is_clean):
            return 1.0
        return min(float(10 ** ((RAISED_DBFS - loudest) / 20)), HIGHEST / self.peak)


class Survey:
    """Meter of a recording with `channels` channels at `rate` Hz."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._mixes = channels > 2
        self._comparison = ChannelComparison(rate) if channels == 2 else None
        self._energy = np.zeros(channels)
        self._mix_energy = 0.0
        self._peak = 0.0
        self._part = _Part(channels)
        self._short = _Part(channels)
        self._short_powers: list[float] = []
        """Power of the loudest channel in every short part."""
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
        sums = block.sum(axis=0, dtype=np.float64)
        for part, seconds in ((self._part, LEVEL_S), (self._short, SHORT_S)):
            part.add(len(block), sums, energy)
            if part.samples >= seconds * self._rate:
                self._end(part)
        heard = block
        if self._mixes:
            heard = mixed(block)
            self._mix_energy += float(np.einsum("ij,ij->", heard, heard, dtype=np.float64))
        peak = max(float(heard.max(initial=0)), -float(heard.min(initial=0)))
        self._peak = max(self._peak, peak)
        if self._comparison is not None:
            self._comparison.push(block.T)

    def levels(self) -> Levels:
        """Return the levels of what was added."""
        for part in (self._part, self._short):
            if part.samples:
                self._end(part)
        gain = 1.0
        if self._mix_energy > 0:
            gain = math.sqrt(float(self._energy.max()) / self._mix_energy)
            # Channels in opposite phase cancel each other: what is left is noise.
            gain = min(gain, float(len(self._energy)))
        levels = tuple(_dbfs(power) for power in self._loudest.tolist())
        # numpy imports its percentiles when they are first used: too late for a confined decoder.
        ordered = sorted(self._short_powers)
        background = ordered[len(ordered) // 10] if ordered else 0.0
        comparison = self._comparison
        return Levels(
            self.seconds,
            levels,
            self._peak * gain,
            gain,
            alike=comparison is not None and comparison.same(),
            best=comparison.better if comparison is not None else 0,
            background_dbfs=_dbfs(background),
        )

    def _end(self, part: _Part) -> None:
        power = part.power()
        if part is self._part:
            self._loudest = np.maximum(self._loudest, power)
        else:
            self._short_powers.append(float(power.max()))
        part.clear()


class _Part:
    """Sums over a part of a recording."""

    def __init__(self, channels: int) -> None:
        self._sums = np.zeros(channels)
        self._energy = np.zeros(channels)
        self.samples = 0

    def add(self, samples: int, sums: NDArray[np.float64], energy: NDArray[np.float64]) -> None:
        """Add a block: its sums and its energy by channel."""
        self.samples += samples
        self._sums += sums
        self._energy += energy

    def power(self) -> NDArray[np.float64]:
        """Return the mean square of every channel, without a constant offset."""
        mean = self._sums / self.samples
        return np.asarray(np.maximum(self._energy / self.samples - mean**2, 0.0), np.float64)

    def clear(self) -> None:
        """Begin the next part."""
        self._sums[:] = self._energy[:] = 0
        self.samples = 0


def _dbfs(power: float) -> float:
    return round(max(-96.0, 10 * math.log10(power)), 1) if power > 0 else -96.0


def sides(levels_dbfs: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return the numbers of the silent and of the other channels."""
    silent = [n for n, level in enumerate(levels_dbfs) if level < SILENT_DBFS]
    return silent, [n for n in range(len(levels_dbfs)) if n not in silent]
