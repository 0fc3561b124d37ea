"""Windows to compare and to time models on, where no recording is at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE


def buzzes(rows: int, samples: int) -> NDArray[np.float32]:
    """float32[rows, samples]: pitch that wanders, comes and goes, above faint noise; no two alike.

    No speech, but with its level, its harmonics and its pauses, and the same in every run.
    """
    dice = np.random.default_rng(3)
    seconds = np.arange(samples) / SAMPLE_RATE
    windows = []
    for _ in range(rows):
        pitch = 110 + 120 * dice.random() + 30 * np.sin(2 * np.pi * (1 + dice.random()) * seconds)
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        slope = 0.5 + 1.5 * dice.random()
        buzz = np.sum([np.sin(k * phase) / k**slope for k in range(1, 16)], axis=0)
        bursts = np.clip(np.sin(2 * np.pi * (2 + 3 * dice.random()) * seconds), 0, 1)
        windows.append(0.05 * buzz * bursts + 2e-3 * dice.standard_normal(samples))
    return np.asarray(windows, np.float32)
