"""Synthetic windows for comparing and timing models without recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE


def buzzes(rows: int, samples: int) -> NDArray[np.float32]:
    """Return float32[rows, samples]: bursts of wandering pitch above faint noise; all rows differ.

    The signal is not speech, but has its level, its harmonics and its pauses. It is the same in
    every run.
    """
    rng = np.random.default_rng(3)
    seconds = np.arange(samples) / SAMPLE_RATE
    windows = []
    for _ in range(rows):
        pitch = 110 + 120 * rng.random() + 30 * np.sin(2 * np.pi * (1 + rng.random()) * seconds)
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        slope = 0.5 + 1.5 * rng.random()
        buzz = np.sum([np.sin(k * phase) / k**slope for k in range(1, 16)], axis=0)
        bursts = np.clip(np.sin(2 * np.pi * (2 + 3 * rng.random()) * seconds), 0, 1)
        windows.append(0.05 * buzz * bursts + 2e-3 * rng.standard_normal(samples))
    return np.asarray(windows, np.float32)
