"""Comparison of two channels: whether both carry the same voice. Pure.

One voice is often recorded as stereo: one microphone on both channels, with other noise, another
codec, another level or a delay of some milliseconds. Two people on two channels differ, even if
each is faintly audible on the other's channel: then the louder channel changes with the speaker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# numpy imports its transforms when they are first used: too late for a confined decoder, which
# cannot read files. The same holds for its percentiles, which are therefore not used here.
from numpy.fft import irfft, rfft
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 8_000
"""Rate in Hz to which the channels are reduced at most."""
BLOCK_S = 0.5
"""Seconds that are compared at a time."""
LOWEST_HZ, HIGHEST_HZ = 200, 3_400
"""Band that is compared: that of a voice, without hum."""
LONGEST_LAG_S = 0.01
"""Longest delay between the channels."""
FAINTEST_DBFS, FAINTEST_DB = -80.0, 12.0
"""A block counts if it is louder than this, and at most this much below the loudest block."""

ALIKE = 0.6
"""Correlation from which a block is the same in both channels: that of noise at 2 dB SNR."""
ALIKE_SHARE = 0.8
"""Share of the blocks that must be alike."""
MOST_DB = 10.0
"""Largest median difference of the levels: a voice may be panned by 9 dB, and a line lets -12 dB of
the other side through at most."""
SPREAD_DB = 6.0
"""Largest spread of the difference: from a tenth to nine tenths of the blocks."""
LEAST_BLOCKS = 3
"""Blocks without which only equal channels have the same voice."""

EQUAL_STEPS, EQUAL_SHARE = 2 / 32_768, 0.01
"""Channels are equal if no sample differs by more than this, or this share of the block's peak."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Correlation of one block, and the level of each channel in dBFS."""

    correlation: float
    levels: tuple[float, float]

    @property
    def level(self) -> float:
        return max(self.levels)


class ChannelComparison:
    """Comparison of two channels at `rate` Hz, block by block.

    It keeps three numbers per block: 200 kB per hour.
    """

    def __init__(self, rate: int) -> None:
        self._reduction = max(1, rate // RATE)
        reduced = rate / self._reduction
        self._size = int(BLOCK_S * reduced) * self._reduction
        self._length = 2 ** int(np.ceil(np.log2((BLOCK_S + LONGEST_LAG_S) * reduced)))
        self._lag = int(LONGEST_LAG_S * reduced)
        low, high = (int(hz * self._length / reduced) for hz in (LOWEST_HZ, HIGHEST_HZ))
        self._band = slice(low, high)
        self._pending = np.zeros((2, 0), np.float32)
        self._equal = True
        self._blocks: list[_Block] = []

    @property
    def missing(self) -> int:
        """Number of samples that complete the next block."""
        return self._size - self._pending.shape[1]

    def skip(self) -> None:
        """Drop the incomplete block, because a hole follows it."""
        self._pending = self._pending[:, :0]

    def push(self, samples: Floats) -> bool:
        """Add float32[2, n] with full scale = 1; return whether it completed a block."""
        difference = float(np.abs(samples[0] - samples[1]).max(initial=0))
        peak = float(np.abs(samples).max(initial=0))
        self._equal &= difference <= max(EQUAL_STEPS, EQUAL_SHARE * peak)
        pending = np.concatenate([self._pending, samples], axis=1)
        whole = pending.shape[1] // self._size * self._size
        for start in range(0, whole, self._size):
            self._compare(pending[:, start : start + self._size])
        self._pending = pending[:, whole:]
        return bool(whole > 0)

    def _compare(self, block: Floats) -> None:
        """Compare float32[2, size]."""
        reduced = block.reshape(2, -1, self._reduction).mean(axis=2)
        spectra = rfft(reduced, self._length, axis=1)
        band = np.zeros_like(spectra)
        band[:, self._band] = spectra[:, self._band]
        first, second = np.square(np.abs(band)).sum(axis=1).tolist()
        cross = np.abs(irfft(band[0] * band[1].conj(), self._length))
        largest = float(max(cross[: self._lag + 1].max(), cross[-self._lag :].max()))
        # Each sum over half of a spectrum is half of the energy times the length.
        scale = 2 / self._length
        energy = scale * float(np.sqrt(first * second))
        mean = [max(each * scale / reduced.shape[1], 1e-15) for each in (first, second)]
        left, right = (10 * float(np.log10(each)) for each in mean)
        self._blocks.append(_Block(largest / energy if energy > 0 else 0.0, (left, right)))

    @property
    def counted(self) -> int:
        """Number of blocks with sound that count now; more may count later."""
        return len(self._counted())

    def _counted(self) -> list[_Block]:
        loudest = max((block.level for block in self._blocks), default=FAINTEST_DBFS)
        least = max(FAINTEST_DBFS, loudest - FAINTEST_DB)
        return [block for block in self._blocks if block.level >= least]

    def same(self, most_db: float = MOST_DB) -> bool:
        """Return whether both channels carried the same voice so far.

        `most_db` is the largest difference of their levels.
        """
        if self._equal:
            return True
        blocks = self._counted()
        alike = [block for block in blocks if block.correlation >= ALIKE]
        if len(blocks) < LEAST_BLOCKS or len(alike) < ALIKE_SHARE * len(blocks):
            return False
        differences = sorted(block.levels[0] - block.levels[1] for block in alike)
        low, middle, high = (differences[int(len(differences) * n)] for n in (0.1, 0.5, 0.9))
        return abs(middle) <= most_db and high - low <= SPREAD_DB

    @property
    def better(self) -> int:
        """Channel (0 or 1) whose voice is further above its own background."""
        blocks = self._counted()
        if self._equal or not blocks:
            return 0

        def clearance(channel: int) -> float:
            voice = sorted(block.levels[channel] for block in blocks)
            every = sorted(block.levels[channel] for block in self._blocks)
            return voice[len(voice) // 2] - every[len(every) // 10]

        return int(clearance(1) > clearance(0) + 1)
