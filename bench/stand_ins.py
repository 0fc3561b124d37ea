"""Substitute models, for benchmarks that do not measure the model."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.backends import registry
from stream.backends.base import Backend
from stream.labels import LABELS
from stream.types import ModelInfo

NULL = "bench.stand_ins:null_backend"
LOUDNESS = "bench.stand_ins:loudness_backend"


class NullBackend:
    """Backend that returns zeros at once, which leaves the cost of everything else."""

    info = ModelInfo(
        id="null",
        revision="0",
        labels=LABELS,
        frame_hop=320,
        lengths=(16_000, 32_000, 48_000),
        batch_sizes=(1, 2, 4, 8, 16, 32),
        temperature=1.0,
        licence="none",
        device="cpu",
        why="A benchmark measures the server without a model.",
    )

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(batch), batch.shape[1] // 320, len(LABELS)), np.float32)

    def close(self) -> None:
        pass


def null_backend() -> Backend:
    return NullBackend()


class SlowBackend(NullBackend):
    """Backend that takes 4 ms a window without a CPU, so that the model is what streams share."""

    ROW_S = 0.004

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(self.ROW_S * len(batch))
        return super().infer(batch)


def slow_backend() -> Backend:
    return SlowBackend()


class LoudnessBackend(SlowBackend):
    """The same, with scores: the louder a frame, the angrier, so that alerts begin and end."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().infer(batch)
        level = np.sqrt((batch.reshape(len(batch), -1, 320) ** 2).mean(axis=2))
        logits[:, :, LABELS.index("angry")] = 60 * level
        logits[:, :, LABELS.index("neutral")] = 3
        return logits


def loudness_backend() -> Backend:
    return LoudnessBackend()


class BlockingBackend:
    """Real model that hangs while the file named in BENCH_BLOCK exists."""

    def __init__(self, real: Backend, block: Path) -> None:
        self._real = real
        self._block = block

    @property
    def info(self) -> ModelInfo:
        # Without embeddings, which this class does not pass on.
        return replace(self._real.info, dim=0)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        while self._block.exists():
            time.sleep(0.02)
        return self._real.infer(batch)

    def close(self) -> None:
        self._real.close()


def blocking_backend() -> Backend:
    return BlockingBackend(
        registry.load(os.environ["BENCH_MODEL"]), Path(os.environ["BENCH_BLOCK"])
    )
