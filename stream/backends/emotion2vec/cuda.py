"""A network on a CUDA device: pinned memory, one recorded graph per shape, one wait per batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

log = logging.getLogger(__name__)

ATTENTION = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
"""Attention kernels with an additive bias, which flash attention lacks, in order of preference."""

WARM_UP_RUNS = 3
"""Runs before a capture: cuBLAS and cuDNN select kernels and allocate memory in the first."""

ALLOC_FAILED = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Texts by which cuBLAS and cuDNN report a lack of memory; their errors have no special type."""

HIGH_PRIORITY = -1
"""Stream priority: windows run before any other work of this process on the device."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """A shape's graph and the memory it reads and writes; `graph` is None if graphs are off."""

    graph: Any
    audio: torch.Tensor
    logits: torch.Tensor
    host_logits: torch.Tensor
    features: torch.Tensor


class CudaRunner:
    """Runs batches on one CUDA device, each shape as a CUDA graph recorded at its first call.

    A call is one copy in, one graph launch, one copy out and one wait, whatever the number of
    rows; features, if requested, are one more copy. The host thread sleeps while it waits. All
    shapes share one pinned and one device input buffer and one memory pool, because they never
    run at the same time; record the largest shape first. If a graph cannot be captured, or
    `graphs` is False, the network is called directly.
    """

    def __init__(self, scorer: torch.nn.Module, device: str, graphs: bool = True) -> None:
        self.scorer: torch.nn.Module | None = scorer
        self.graphs = graphs
        self.attention = list(ATTENTION)
        self._device = torch.device(device)
        self._host = torch.empty(0, pin_memory=True)
        self._input = torch.empty(0, device=self._device)
        self._stream = torch.cuda.Stream(self._device, priority=HIGH_PRIORITY)
        # A blocking event puts the waiting thread to sleep; a plain wait would spin a core.
        self._ready = torch.cuda.Event(blocking=True)
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[tuple[int, ...], _Recorded] = {}

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        """Return pinned memory float32[rows, samples], from which `run` copies to the device."""
        staged: NDArray[np.float32] = self._pinned(rows, samples).numpy()
        return staged

    def _pinned(self, rows: int, samples: int) -> torch.Tensor:
        if self._host.numel() < rows * samples:
            self._host = torch.empty(rows * samples, pin_memory=True)
        return self._host[: rows * samples].view(rows, samples)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # A copy, because the next call overwrites this memory.
        logits: NDArray[np.float32] = self._call(batch).host_logits.numpy().copy()
        return logits

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        recorded = self._call(batch)
        with _memory_errors(), torch.inference_mode():
            features = recorded.features.float().cpu().numpy()
        return recorded.host_logits.numpy().copy(), features

    @torch.inference_mode()
    def _call(self, batch: NDArray[np.float32]) -> _Recorded:
        """Run one batch; its results stay valid in the shape's memory until the next call."""
        rows, samples = batch.shape
        staged = self.staging(rows, samples)
        if batch.ctypes.data != staged.ctypes.data:
            staged[...] = batch
        with torch.cuda.device(self._device), _memory_errors():
            recorded = self._recorded.get(batch.shape)
            if recorded is None:
                recorded = self._recorded[batch.shape] = self._record(rows, samples)
            with torch.cuda.stream(self._stream):
                recorded.audio.copy_(self._pinned(rows, samples), non_blocking=True)
                if recorded.graph is None:
                    logits, features = self._forward(recorded.audio)
                    recorded.logits.copy_(logits)
                    recorded.features.copy_(features)
                else:
                    recorded.graph.replay()
                recorded.host_logits.copy_(recorded.logits, non_blocking=True)
                self._ready.record(self._stream)
            self._ready.synchronize()
        return recorded

    def _forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.scorer is not None, "closed"
        with sdpa_kernel(self.attention):
            logits, features = self.scorer(audio)
        return logits, features

    def _record(self, rows: int, samples: int) -> _Recorded:
        """Run a shape until its kernels are selected, then capture it."""
        if self._input.numel() < rows * samples:
            self._input = torch.zeros(rows * samples, device=self._device)
        audio = self._input[: rows * samples].view(rows, samples)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                logits, features = self._forward(audio)
        self._stream.synchronize()
        # The capture allocates from its own pool, so free the memory cached by the runs before it.
        torch.cuda.empty_cache()
        graph = None
        if self.graphs:
            try:
                graph, logits, features = self._capture(audio)
            except Exception as error:
                if _out_of_memory(error):
                    raise
                # After a failed capture torch returns less memory to the device (torch 2.11).
                self.graphs = False
                cause = _first_error(error)
                line = (str(cause).splitlines() or [type(cause).__name__])[0]
                log.warning("CUDA graph capture failed: running without", extra={"error": line})
        host_logits = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        return _Recorded(graph, audio, logits, host_logits, features)

    def _capture(self, audio: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        # The outer context restores the current stream, which a failed capture does not.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream),
        ):
            logits, features = self._forward(audio)
        return graph, logits, features

    def close(self) -> None:
        self._recorded.clear()
        self.scorer = None
        torch.cuda.empty_cache()


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise MemoryError where torch reports that the device is out of memory."""
    try:
        yield
    except Exception as error:
        if not _out_of_memory(error):
            raise
        # The traceback keeps the failed call's memory allocated: retry only after it is dropped.
        raise MemoryError("the CUDA device has no memory for a batch of this size") from error


def _out_of_memory(error: BaseException | None) -> bool:
    """Return whether the device was out of memory, also if a failed capture hides that."""
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError) or any(
            name in str(error) for name in ALLOC_FAILED
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_error(error: BaseException) -> BaseException:
    """Return the first error of the chain: the end of a failed capture raises another one."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
