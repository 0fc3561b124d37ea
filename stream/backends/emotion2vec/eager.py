"""Runner that calls the network directly: for CPUs and all devices without a special runner."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stream.backends.emotion2vec.model import Network
from stream.types import SAMPLE_RATE

_SAMPLES_AT_ONCE = 4 * SAMPLE_RATE
"""Samples per call on a CPU: more do not fit its caches and cost more per window."""


class Scorer(torch.nn.Module):
    """The network without the labels that its file marks as unused: audio → (logits, features)."""

    def __init__(self, network: Network, label_indices: list[int]) -> None:
        super().__init__()
        self.network = network
        # A buffer, because a list would be copied to the device at every call.
        self.register_buffer("label_indices", torch.tensor(label_indices), persistent=False)

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.features(audio)
        return self.network.logits(features).index_select(-1, self.label_indices), features


class EagerRunner:
    """Calls the network directly, on `threads` CPU threads."""

    def __init__(self, scorer: Scorer, threads: int) -> None:
        self.scorer: Scorer | None = scorer
        self._threads = threads

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        return np.empty((rows, samples), np.float32)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.embed(batch)[0]
        return logits

    @torch.inference_mode()
    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # OpenMP keeps its thread count per calling thread, so it is set in the inferring thread.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        assert self.scorer is not None, "closed"
        audio = torch.tensor(batch, dtype=torch.float32, device=self.scorer.label_indices.device)
        rows = (
            max(1, _SAMPLES_AT_ONCE // audio.shape[1]) if audio.device.type == "cpu" else len(audio)
        )
        pieces = zip(*(self.scorer(piece) for piece in audio.split(rows)), strict=True)
        logits, features = (torch.cat(piece).float().cpu().numpy() for piece in pieces)
        return logits, features

    def close(self) -> None:
        self.scorer = None
