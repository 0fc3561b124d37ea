"""Helpers of the emotion2vec tests: loading, speech-like signals, access to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.backends import emotion2vec
from stream.backends.emotion2vec import Emotion2vec, eager
from stream.types import SAMPLE_RATE

LENGTHS = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
TOLERANCE = 1e-4


def load(directory: Path) -> Emotion2vec:
    loaded = emotion2vec.load(str(directory), device="cpu")
    assert isinstance(loaded, Emotion2vec)
    return loaded


def speech_like(samples: int, seed: int = 1, gain: float = 0.1) -> NDArray[np.float32]:
    """Return a signal with the rhythm of speech: a wandering tone in bursts, above faint noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / SAMPLE_RATE
    pitch = 120 + 60 * rng.random() + 30 * np.sin(2 * np.pi * (1 + rng.random()) * t)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    tone = np.sum([np.sin(k * phase) / k for k in range(1, 12)], axis=0)
    bursts = np.clip(np.sin(2 * np.pi * (3 + rng.random()) * t), 0, 1)
    audio = tone * bursts + 0.02 * rng.standard_normal(samples)
    return np.asarray(gain * audio / np.abs(audio).max(), np.float32)


def softmax(x: NDArray[np.float32]) -> NDArray[np.float64]:
    e = np.exp(x.astype(np.float64) - x.max())
    return np.asarray(e / e.sum())


def features(loaded: Emotion2vec, audio: NDArray[np.float32]) -> Any:
    """Return the frames before the head, float32[rows, frames, dim]."""
    import torch

    with torch.inference_mode():
        return network(loaded).features(torch.from_numpy(audio)).numpy()


def network(loaded: Emotion2vec) -> Any:
    assert isinstance(loaded.runner, eager.EagerRunner)
    assert loaded.runner.scorer is not None
    return loaded.runner.scorer.network
