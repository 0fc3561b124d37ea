"""Windows per second: Emotide with and without CUDA graphs, and FunASR's way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.gpu.device import PEAK
from bench.gpu.funasr_way import FunasrWay
from bench.gpu.part import Context
from bench.gpu.work import flops
from stream.backends import emotion2vec
from stream.backends.base import Backend
from stream.backends.emotion2vec import Emotion2vec
from stream.backends.emotion2vec.backend import LENGTHS
from stream.backends.emotion2vec.config import read_shape
from stream.backends.emotion2vec.cuda import CudaRunner
from stream.backends.emotion2vec.signals import buzzes
from stream.inference.runner import BackendRunner
from stream.types import SAMPLE_RATE

BATCHES = (128, 64, 32, 8, 1)
"""Batch sizes, the largest first, because the shapes share one memory pool."""

SECONDS = {"cuda": 0.6, "cpu": 0.2}
"""Seconds for which each shape is run, by device."""


def run(context: Context) -> None:
    """Emit rows of windows per second by length, batch and engine."""
    table = f"Windows per second, {context.model}"
    shape, peak = read_shape(context.directory() / "config.yaml"), _peak(context)
    engines = {"ours": load(context)}
    if not context.on_cpu:
        engines["ours without graphs"] = direct = load(context)
        assert isinstance(direct.runner, CudaRunner)
        direct.runner.graphs = False
    funasr = _funasr(context)
    batches = engines["ours"].info.batch_sizes if context.on_cpu else BATCHES
    for samples in sorted(LENGTHS, reverse=True):
        window = f"{samples / SAMPLE_RATE:g} s"
        reference = _timed(context, partial(funasr.run, buzzes(1, samples)), 1)
        context.emit(table, window=window, batch=1, engine="FunASR's way", **reference)
        for batch in batches:
            for name, backend in engines.items():
                if context.left() < 2 * SECONDS[context.kind]:
                    continue
                try:
                    figures = measure(context, backend, batch, samples)
                except MemoryError:
                    context.emit(table, window=window, batch=batch, engine=f"{name}: no memory")
                    continue
                share = flops(shape, samples) * figures["windows/s"] / peak if peak else None
                context.emit(
                    table,
                    window=window,
                    batch=batch,
                    engine=name,
                    **figures,
                    **{
                        "× FunASR": round(figures["windows/s"] / reference["windows/s"], 2),
                        "of peak": None if share is None else round(share, 3),
                    },
                )
    ours = engines["ours"].runner
    if isinstance(ours, CudaRunner):
        context.emit(table, engine="ours ran as " + ("graphs" if ours.graphs else "DIRECT CALLS"))
    for backend in engines.values():
        backend.close()


def load(context: Context) -> Emotion2vec:
    """Load the context's model on its device: bfloat16 on a GPU, float32 on a CPU."""
    return emotion2vec.load(
        str(context.directory()),
        context.device,
        runtime="torch",
        precision="float32" if context.on_cpu else "bfloat16",
    )


def measure(context: Context, backend: Backend, batch: int, samples: int) -> dict[str, float]:
    """Measure `backend` as the scheduler calls it: separate rows are stacked, scored, checked.

    Return windows/s, p50 and p99 of a call in ms, CPU time of the host per call in ms, and on a
    GPU the peak of allocated memory and the reserved memory in MB, including all loaded weights.
    Exceptions of the backend propagate, because timed calls only report that rows failed.
    """
    rows = list(buzzes(batch, samples))
    if not context.on_cpu:
        torch.cuda.reset_peak_memory_stats(context.device)
    backend.infer(np.stack(rows))
    model = BackendRunner(backend, batch)
    figures = _timed(context, lambda: model.infer(rows, embed=False), batch)
    if None in model.infer(rows, embed=False) or batch not in model.sizes:
        raise RuntimeError(f"batches of {batch} windows failed during the measurement")
    if not context.on_cpu:
        figures["peak MB"] = round(torch.cuda.max_memory_allocated(context.device) / 1e6)
        figures["reserved MB"] = round(torch.cuda.memory_reserved(context.device) / 1e6)
    return figures


def _funasr(context: Context) -> FunasrWay:
    loaded = emotion2vec.load(str(context.directory()), "cpu", runtime="torch")
    return FunasrWay.of(loaded, context.device)


def _timed(context: Context, call: Callable[[], object], windows: int) -> dict[str, float]:
    """Return the figures of repeated calls, after three warm-up calls."""
    for _ in range(3):
        call()
    seconds: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) < begin + SECONDS[context.kind] or len(seconds) < 5:
        call()
        seconds.append(time.perf_counter() - now)
    host = (time.process_time() - cpu) / len(seconds)
    return {
        "windows/s": round(windows * len(seconds) / sum(seconds), 2),
        "p50 ms": round(float(np.percentile(seconds, 50)) * 1e3, 2),
        "p99 ms": round(float(np.percentile(seconds, 99)) * 1e3, 2),
        "host ms": round(host * 1e3, 2),
    }


def _peak(context: Context) -> float | None:
    """Return the matrix peak in FLOP/s that the part `device` measured in this run."""
    if not context.rows.is_file():
        return None
    for line in context.rows.read_text("utf-8").splitlines():
        row = json.loads(line)["row"]
        if row.get("fact") == PEAK:
            return float(row["value"]) * 1e12
    return None
