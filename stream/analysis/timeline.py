"""Timeline of frame logits, and the means over it that become rolling scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE, Logits, Window

Mean = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RollingSettings:
    """Horizons in seconds, each named like `"10s"` on the wire; `"call"` is always added."""

    horizons: tuple[int, ...] = (10, 30)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return posteriors over the last axis; float32 of the same shape."""
    scaled = logits / np.float32(temperature)
    e = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), dtype=np.float32)


def speech_mask(window: Window, frames: int, hop: int) -> NDArray[np.bool_]:
    """Return which of a window's frames lie in its speech, bool[frames].

    A frame counts if its middle lies in speech. If none does, because the speech is shorter than a
    frame, the last frame counts, so that every window has a score.
    """
    middle = window.start + np.arange(frames) * hop + hop // 2
    mask = np.zeros(frames, np.bool_)
    for start, end in window.speech:
        mask |= (middle >= start) & (middle < end)
    if not mask.any():
        mask[-1] = True
    return mask


class Timeline:
    """Ring of frame cells of one channel: the sum of logits per cell and the number of windows.

    Overlapping windows average in their cells. Cells that leave the ring are added to running sums,
    so the mean over the call costs one row of memory. `capacity_s` is in seconds.

    It serves for any row per frame whose mean is meaningful, so for features as well as logits.
    """

    def __init__(self, width: int, hop: int, capacity_s: float) -> None:
        self._hop = hop
        cells = int(capacity_s * SAMPLE_RATE) // hop
        self._sums = np.zeros((cells, width), np.float32)
        self._counts = np.zeros(cells, np.float32)
        self._weights = np.zeros(cells, np.float32)
        """1 / count of every cell, 0 without a window."""
        self._head = 0
        self._past_sum = np.zeros(width, np.float64)
        self._past_count = 0

    def add(self, window: Window, logits: Logits, mask: NDArray[np.bool_]) -> None:
        """Add the frames of a scored window selected by `mask` to their cells."""
        first = window.start // self._hop
        self._advance(first + len(logits))
        cells = first + np.flatnonzero(mask)
        inside = cells >= max(0, self._head - len(self._counts))
        at = cells[inside] % len(self._counts)
        self._sums[at] += logits[mask][inside]
        counts = self._counts[at] + 1
        self._counts[at] = counts
        self._weights[at] = 1 / counts

    def mean(self, start: int, end: int) -> tuple[Mean, int]:
        """Return the mean logits of the scored cells in `[start, end)` and their number.

        With 0 cells the mean is zeros, without meaning.
        """
        first = max(start // self._hop, self._head - len(self._counts), 0)
        last = min(-(-end // self._hop), self._head)
        return self._mean(self._slices(first, last))

    def cells(self, start: int, end: int) -> tuple[NDArray[np.intp], Mean]:
        """Return the scored cells in `[start, end)` that the ring still holds.

        These are their positions in samples, int[cells], and mean logits, float32[cells, width].
        """
        numbers = np.arange(
            max(start // self._hop, self._head - len(self._counts), 0),
            min(-(-end // self._hop), self._head),
        )
        at = numbers % len(self._counts)
        scored = self._counts[at] > 0
        at = at[scored]
        return numbers[scored] * self._hop, self._sums[at] / self._counts[at, None]

    def overall(self) -> tuple[Mean, int]:
        """Return the mean logits over all cells scored since the stream began, and their number."""
        recent, count = self._mean([slice(None)])
        total = self._past_count + count
        if not total:
            return recent, 0
        mean = (self._past_sum + recent.astype(np.float64) * count) / total
        return mean.astype(np.float32), total

    def _slices(self, first: int, last: int) -> list[slice]:
        """Return where the ring holds the cells `[first, last)`: in one slice or two."""
        if first >= last:
            return []
        cells = len(self._counts)
        begin, end = first % cells, (last - 1) % cells + 1
        return [slice(begin, end)] if begin < end else [slice(begin, cells), slice(end)]

    def _mean(self, slices: list[slice]) -> tuple[Mean, int]:
        total, count = np.zeros(self._sums.shape[1], np.float32), 0
        for part in slices:
            weights = self._weights[part]
            count += int(np.count_nonzero(weights))
            total += weights @ self._sums[part]
        return total / np.float32(max(1, count)), count

    def _advance(self, head: int) -> None:
        """Make room up to cell `head`; cells that leave the ring are added to the running sums."""
        cells = len(self._counts)
        added = min(head - self._head, cells)
        if added <= 0:
            return
        slices = self._slices(head - added, head)
        mean, count = self._mean(slices)
        self._past_sum += mean.astype(np.float64) * count
        self._past_count += count
        for part in slices:
            self._sums[part] = self._counts[part] = self._weights[part] = 0
        self._head = head
