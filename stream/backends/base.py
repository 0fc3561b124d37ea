"""What the batcher asks of a model, and the errors with which a model is refused."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream.types import ModelInfo

LABELS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)
"""The nine labels of emotion2vec+, in its order. A backend with fewer leaves the others out."""


class ModelRefused(Exception):
    """A model that must not run: missing, incomplete or not what it says. Names file and remedy."""


class Backend(Protocol):
    """Frame-level emotion inference. Called from one thread only; holds no state of any stream."""

    @property
    def info(self) -> ModelInfo: ...

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32[batch, frames, labels] of windows float32[batch, samples] at 16 kHz.

        All rows have one length out of `info.lengths`. Rows never influence each other, and the
        mean of a row's frame logits is its utterance logits.
        """
        ...

    def close(self) -> None:
        """Release threads and memory."""
        ...


@runtime_checkable
class Embedder(Backend, Protocol):
    """A backend that also gives embeddings; its `info.dim` is above 0."""

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What `infer` gives, and the features float32[batch, frames, dim] that it rests on."""
        ...
