"""CPU time of models per window and per second of speech, side by side in one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.backends.base import Backend
from stream.config import Config
from stream.types import from_ms
from training.data import RATE, Array

ROUNDS = 31


@dataclass(frozen=True)
class Cost:
    """CPU of one window, of a second of speech, and that against the last model's.

    A second of continuous speech costs one window of the longest length per hop.
    """

    model: str
    seconds: float
    per_window_ms: float
    per_second_ms: float
    ratio: float


def cpu_ms(backend: Backend, audio: Array) -> float:
    began = time.process_time()
    backend.infer(audio)
    return 1000 * (time.process_time() - began)


def costs(models: Sequence[Backend]) -> list[Cost]:
    """Measure the longest window of every model, in turns; the median of `ROUNDS`."""
    hop_s = from_ms(Config().windows.hop_ms) / RATE
    rng = np.random.default_rng(0)
    lengths = [model.info.preferred_lengths[-1] for model in models]
    audio = [rng.normal(0, 0.1, (1, length)).astype(np.float32) for length in lengths]
    turns = [
        [cpu_ms(model, window) for model, window in zip(models, audio, strict=True)]
        for _ in range(ROUNDS + 2)
    ]
    medians = np.median(turns[2:], axis=0)
    return [
        Cost(model.info.id, length / RATE, ms, ms / hop_s, ms / medians[-1])
        for model, length, ms in zip(models, lengths, medians, strict=True)
    ]
