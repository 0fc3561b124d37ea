"""Conversion of decoded frames to float32, and mixing of many channels. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Pcm = NDArray[np.int16]
"""Interleaved audio, shape [samples, channels]."""

Block = NDArray[np.float32]
"""Audio of all channels, shape [samples, channels]; full scale is 1, and may be exceeded."""

SCALES = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}
"""Full scale of FFmpeg's sample formats; `flt` and `dbl` have 1."""


def to_float(array: NDArray[Any], sample_format: str, channels: int) -> Block:
    """Return the samples of a frame; int16 becomes exactly n / 32768.

    `array` is that of PyAV: [channels, samples] for planar formats, [1, samples * channels] else.
    Values that are not finite become 0.
    """
    planar = sample_format.endswith("p")
    name = sample_format.removesuffix("p") if planar else sample_format
    rows = array.T if planar else array.reshape(-1, channels)
    if name not in SCALES:
        block: Block = np.ascontiguousarray(rows, np.float32)
        if not np.isfinite(block.sum()):
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        return block
    # float32 holds 24 bits: wider integers are scaled in float64 first.
    numbers: NDArray[Any] = rows.astype(np.float64 if name in ("s32", "s64") else np.float32)
    numbers -= 128 if name == "u8" else 0
    numbers /= SCALES[name]
    return np.ascontiguousarray(numbers, np.float32)


def to_pcm(block: Block) -> Pcm:
    """Return int16 for a block in [-1, 1); what exceeds it is clipped."""
    return np.rint(np.clip(block, -1, 32767 / 32768) * 32768).astype(np.int16)


def mixed(block: Block) -> Block:
    """Return the plain mean of all channels, shape [samples, 1].

    Layouts do not count: a downmix for cinemas would drop the channels for effects, and the tracks
    of a recorder have no layout.
    """
    return np.asarray(block.mean(axis=1, dtype=np.float32, keepdims=True))


class RateConverter:
    """Resampler of all channels from `source` to `target` Hz; chunks do not change its output."""

    def __init__(self, source: int, target: int, channels: int) -> None:
        self._stream = (
            None
            if source == target
            else soxr.ResampleStream(source, target, channels, dtype="float32", quality="HQ")
        )
        self._channels = channels

    def push(self, block: Block) -> Block:
        """Return the output that is ready after `block`."""
        if self._stream is None:
            return block
        out = self._stream.resample_chunk(np.ascontiguousarray(block))
        return np.asarray(out, np.float32).reshape(-1, self._channels)

    def drain(self) -> Iterator[Block]:
        """Yield the rest; call it once."""
        if self._stream is not None:
            rest = self._stream.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
            yield np.asarray(rest, np.float32).reshape(-1, self._channels)
