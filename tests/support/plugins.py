"""Stand-in models for tests that do not need a real model.

Used by name, `--model tests.support.plugins:fast`; environment variables configure them. Scores
depend on the loudness of every frame, so a test notices if a window of one stream ends up in
another.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.backends.base import Backend
from stream.errors import ModelRefused
from stream.types import ModelInfo

HOP = 320
LENGTHS = (16_000, 32_000, 48_000)
LABELS = ("angry", "happy", "neutral", "sad")
POISON = 0.97
"""A window that peaks above this level makes the `poisoned` model fail."""


class Fast:
    """A fast model: louder frames are angrier."""

    def __init__(self, sizes: tuple[int, ...] = (1, 8, 32)) -> None:
        self.calls = 0
        self.info = ModelInfo(
            id="fast",
            revision="1",
            labels=LABELS,
            frame_hop=HOP,
            lengths=LENGTHS,
            batch_sizes=sizes,
            temperature=1.0,
            licence="test",
            device="cpu",
            why="selected by a test",
            dim=2,
        )

    @property
    def warm(self) -> bool:
        """True after the server's warm-up, which runs every length in every size."""
        return self.calls > len(LENGTHS) * len(self.info.batch_sizes)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls += 1
        rows, samples = batch.shape
        frames = batch.reshape(rows, samples // HOP, HOP)
        level = np.sqrt((frames**2).mean(axis=2))
        logits = np.zeros((rows, samples // HOP, len(LABELS)), np.float32)
        logits[:, :, 0] = 20 * level
        logits[:, :, 2] = 1
        return logits

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits = self.infer(batch)
        return logits, logits[:, :, [0, 2]]

    def close(self) -> None:
        pass


class Slow(Fast):
    """Sleeps EMOTEST_SLEEP_S seconds per batch, for any size up to EMOTEST_SIZE rows."""

    def __init__(self) -> None:
        super().__init__((int(os.environ.get("EMOTEST_SIZE", "32")),))
        self._sleep_s = float(os.environ.get("EMOTEST_SLEEP_S", "0.2"))

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().infer(batch)
        if self.warm:
            time.sleep(self._sleep_s)
        return logits


class Blocked(Fast):
    """Blocks while the file EMOTEST_BLOCK exists."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().infer(batch)
        while self.warm and _file_exists("EMOTEST_BLOCK"):
            time.sleep(0.01)
        return logits


class Poisoned(Fast):
    """Fails if a row of the batch peaks above POISON."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if np.abs(batch).max() > POISON and self.warm:
            raise RuntimeError("poison in the batch")
        return super().infer(batch)


class Nan(Fast):
    """Returns NaN once it is warm."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().infer(batch)
        return np.full_like(logits, np.nan) if self.warm else logits


class NanAtOnce(Fast):
    """Returns NaN from the start."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(super().infer(batch), np.nan)


def fast() -> Backend:
    return Fast()


def slow() -> Backend:
    return Slow()


def blocked() -> Backend:
    return Blocked()


def poisoned() -> Backend:
    return Poisoned()


def nan() -> Backend:
    return Nan()


def nan_at_once() -> Backend:
    return NanAtOnce()


def unloadable() -> Backend:
    """Raise ModelRefused with a sentence for the operator, as backends do."""
    raise ModelRefused("tests.support.plugins: the weights are missing: put them back")


def broken() -> Backend:
    """Raise an unexpected error, as a library does."""
    raise RuntimeError("weights of an unexpected shape")


def loading() -> Backend:
    """Load while the file EMOTEST_LOADING exists; loading cannot be interrupted."""
    while _file_exists("EMOTEST_LOADING"):
        threading.Event().wait(0.01)
    return Fast()


def _file_exists(name: str) -> bool:
    path = os.environ.get(name, "")
    return bool(path) and Path(path).exists()
