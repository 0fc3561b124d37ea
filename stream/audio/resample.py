"""Streaming resampling of one channel to 16 kHz."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import soxr

from stream.types import SAMPLE_RATE, Samples

LONGEST_S = 0.21
"""Seconds of audio for libsoxr at once: its buffers stay as large as the longest input needs."""

MEASURED = 3
"""Blocks of libsoxr's output from which their size is measured: up to 7 ms, once per rate."""


class _Blocks(NamedTuple):
    """Blocks in which libsoxr returns its output: their size and its delay, in samples at 16 kHz.

    Some are a few samples smaller. A block is returned once the samples up to its end, and those
    of the delay, were received.
    """

    size: int
    delay: float


def _open(rate: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


@cache
def _blocks(rate: int) -> _Blocks:
    """Measure the blocks at a rate, sample by sample: libsoxr does not tell them."""
    stream, received, returned, sizes, delay = _open(rate), 0, 0, list[int](), 0.0
    sample = np.zeros((1, 1), np.float32)
    while len(sizes) < MEASURED:
        received += 1
        count = len(stream.resample_chunk(sample))
        if count:
            returned += count
            sizes.append(count)
            delay = max(delay, received * SAMPLE_RATE / rate - returned)
    return _Blocks(max(sizes), delay)


class Resampler:
    """Resampler from float32 at `rate` Hz to float32 at 16 kHz.

    Any chunking of the input gives the same output. libsoxr (quality "HQ", 20 bit) works in blocks,
    so output arrives late: by at most 115 ms at 8 kHz, 40 ms from 22 kHz on. Positions do not
    shift: output sample n is at n / 16 000 s.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._longest = int(rate * LONGEST_S)
        self._received = 0
        self._returned = 0
        self._stream = None if rate == SAMPLE_RATE else _open(rate)

    def needed(self, count: int) -> int:
        """Return how many samples to push for at least `count` more of output.

        More output than that comes in the same block. Fewer samples may bring no output at all.
        """
        if self._stream is None:
            return count
        size, delay = _blocks(self._rate)
        end = self._returned + math.ceil(count / size) * size
        return max(1, math.ceil((end + delay) * self._rate / SAMPLE_RATE) - self._received)

    def push(self, samples: Samples) -> Samples:
        """Return the output that is ready after `samples`, shape [n]; may be empty."""
        if self._stream is None:
            return samples
        self._received += len(samples)
        if len(samples) > self._longest:
            parts = range(0, len(samples), self._longest)
            return np.concatenate([self._push(samples[n : n + self._longest]) for n in parts])
        return self._push(samples)

    def _push(self, samples: Samples) -> Samples:
        assert self._stream is not None
        # Two dimensions save a call of np.squeeze: 1 us of 7 for 100 ms at 8 kHz.
        out: Samples = self._stream.resample_chunk(samples.reshape(-1, 1)).reshape(-1)
        self._returned += len(out)
        return out

    def drain(self) -> Samples:
        """Return the rest and reset; total output length is ⌊input length × 16 000 / rate⌋."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        due = self._received * SAMPLE_RATE // self._rate - self._returned
        rest = np.concatenate([rest, np.zeros(max(0, due - len(rest)), np.float32)])[: max(0, due)]
        self._stream, self._received, self._returned = _open(self._rate), 0, 0
        return rest
