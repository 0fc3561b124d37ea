"""The interface between the scheduler and a model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream.types import ModelInfo


class Backend(Protocol):
    """Frame-level emotion inference. Called from one thread only; keeps no state of a stream."""

    @property
    def info(self) -> ModelInfo: ...

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32[batch, frames, labels] of float32[batch, samples] at 16 kHz.

        All rows have one length out of `info.lengths`. Rows never influence each other, and the
        mean of a row's frame logits is its utterance logits. Raises MemoryError if the device has
        no memory for a batch of this size; the scheduler then sends smaller ones.
        """
        ...

    def close(self) -> None:
        """Release threads and memory."""
        ...


@runtime_checkable
class Embedder(Backend, Protocol):
    """A backend that also returns embeddings; its `info.dim` is above 0."""

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits as `infer` does, and their features float32[batch, frames, dim]."""
        ...


@runtime_checkable
class Staging(Protocol):
    """A backend that owns the memory from which it reads windows fastest (pinned, on a GPU)."""

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        """Return float32[rows, samples] to write windows into; `infer` takes it without a copy.

        Its content is valid until the next call of `staging`.
        """
        ...
