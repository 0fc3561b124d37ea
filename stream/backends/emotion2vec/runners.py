"""How a network is called: as it stands, or on CUDA as one recorded graph per shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream.backends.emotion2vec.backend import Runner
from stream.backends.emotion2vec.model import Network
from stream.types import SAMPLE_RATE

_AT_ONCE = 4 * SAMPLE_RATE
"""Samples that a CPU takes at once: more do not fit its caches and cost more per window."""

_WARM_UP_RUNS = 3
"""Runs before a capture: cuBLAS and cuDNN choose their kernels and claim memory in the first."""


def make(network: Network, kept: list[int], device: str, precision: str, threads: int) -> Runner:
    """Bring `network` to `device` and `precision`; of its labels the indices in `kept` come out."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if precision != "float32":
        network = network.cast({"bfloat16": torch.bfloat16, "float16": torch.float16}[precision])
    scorer = Scorer(network, kept).to(device).eval()
    return (
        GraphRunner(scorer, device) if device.startswith("cuda") else EagerRunner(scorer, threads)
    )


class Scorer(torch.nn.Module):
    """The network without the labels that its file marks as unused: logits, and their features."""

    def __init__(self, network: Network, kept: list[int]) -> None:
        super().__init__()
        self.network = network
        # On the device before any graph is recorded: a list would be copied there at each call.
        self.register_buffer("kept", torch.tensor(kept), persistent=False)

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.features(audio)
        return self.network.logits(features).index_select(-1, self.kept), features


class EagerRunner:
    """Calls the network; for the CPU and every device without a runner of its own."""

    def __init__(self, scorer: Scorer, threads: int) -> None:
        self.scorer: Scorer | None = scorer
        self._threads = threads

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.embed(batch)[0]
        return logits

    @torch.inference_mode()
    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # OpenMP counts its workers per calling thread, so the thread that infers must say it.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        assert self.scorer is not None, "closed"
        audio = torch.tensor(batch, dtype=torch.float32, device=self.scorer.kept.device)
        rows = max(1, _AT_ONCE // audio.shape[1]) if audio.device.type == "cpu" else len(audio)
        pieces = zip(*(self.scorer(piece) for piece in audio.split(rows)), strict=True)
        logits, features = (torch.cat(piece).float().cpu().numpy() for piece in pieces)
        return logits, features

    def close(self) -> None:
        self.scorer = None


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """One shape's graph with the memory it reads and writes; `host_*` is pinned."""

    graph: Any
    host_audio: torch.Tensor
    audio: torch.Tensor
    logits: torch.Tensor
    host_logits: torch.Tensor
    features: torch.Tensor


class GraphRunner:
    """One CUDA graph per shape, recorded when the shape first comes: in the warm-up.

    A call is one copy in, one launch, one copy out and one wait, whatever the number of rows;
    features, if asked for, are one copy more. The graphs share one pool, because they never run
    at the same time.
    """

    def __init__(self, scorer: Scorer, device: str) -> None:
        self.scorer: Scorer | None = scorer
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[tuple[int, ...], _Recorded] = {}

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # A copy, because the next call writes there again.
        logits: NDArray[np.float32] = self._replay(batch).host_logits.numpy().copy()
        return logits

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        recorded = self._replay(batch)
        return recorded.host_logits.numpy().copy(), recorded.features.float().cpu().numpy()

    @torch.inference_mode()
    def _replay(self, batch: NDArray[np.float32]) -> _Recorded:
        """Run one batch; its results lie in the shape's own memory until the next."""
        with torch.cuda.device(self._device):
            recorded = self._recorded.get(batch.shape)
            if recorded is None:
                recorded = self._recorded[batch.shape] = self._record(batch.shape)
            recorded.host_audio.numpy()[...] = batch
            with torch.cuda.stream(self._stream):
                recorded.audio.copy_(recorded.host_audio, non_blocking=True)
                recorded.graph.replay()
                recorded.host_logits.copy_(recorded.logits, non_blocking=True)
            self._stream.synchronize()
        return recorded

    def _record(self, shape: tuple[int, ...]) -> _Recorded:
        assert self.scorer is not None, "closed"
        audio = torch.zeros(shape, device=self._device)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                self.scorer(audio)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            logits, features = self.scorer(audio)
        return _Recorded(
            graph,
            torch.empty(shape, pin_memory=True),
            audio,
            logits,
            torch.empty(logits.shape, pin_memory=True),
            features,
        )

    def close(self) -> None:
        self._recorded.clear()
        self.scorer = None
        torch.cuda.empty_cache()
