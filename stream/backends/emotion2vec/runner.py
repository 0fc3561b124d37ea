"""The interface of all runners of a network, and the selection of one for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stream.backends.emotion2vec.model import Network


class Runner(Protocol):
    """Computes logits of windows; used from one thread."""

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        """Return memory float32[rows, samples] from which `run` reads fastest."""
        ...

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32[batch, frames, labels] of windows float32[batch, samples]."""
        ...

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits and the features float32[batch, frames, dim] before the head."""
        ...

    def close(self) -> None:
        """Release weights and memory."""
        ...


def make_runner(
    network: Network, label_indices: list[int], device: str, precision: str, threads: int
) -> Runner:
    """Move `network` to `device` in `precision`; return a runner for the labels `label_indices`.

    float32 stays float32: TF32 is off, because scores must not depend on the GPU.
    """
    import torch

    from stream.backends.emotion2vec.cuda import CudaRunner
    from stream.backends.emotion2vec.eager import EagerRunner, Scorer

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if precision != "float32":
        network = network.cast({"bfloat16": torch.bfloat16, "float16": torch.float16}[precision])
    scorer = Scorer(network, label_indices).to(device).eval()
    return CudaRunner(scorer, device) if device.startswith("cuda") else EagerRunner(scorer, threads)
