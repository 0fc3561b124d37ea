"""Attention kernels and torch.compile of the same network, if the time suffices."""

from __future__ import annotations

import time

from bench.gpu.part import Context
from bench.gpu.throughput import load, measure
from stream.backends.emotion2vec.backend import LENGTHS
from stream.backends.emotion2vec.cuda import CudaRunner
from stream.backends.emotion2vec.eager import EagerRunner

TABLE = "Attention kernels and torch.compile"


def run(context: Context) -> None:
    """Emit the rate of each attention kernel, then of a compiled network, at one shape."""
    batch = 1 if context.on_cpu else 32
    if not context.on_cpu:
        from torch.nn.attention import SDPBackend

        for kernel in (
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.MATH,
        ):
            loaded = load(context)
            assert isinstance(loaded.runner, CudaRunner)
            loaded.runner.attention = [kernel]
            try:
                figures = measure(context, loaded, batch, LENGTHS[-1])
                context.emit(TABLE, what=f"attention: {kernel.name}", **figures)
            except Exception as error:  # each kernel raises its own type
                line = (str(error).splitlines() or [type(error).__name__])[0]
                context.emit(TABLE, what=f"attention: {kernel.name}: {line:.80}")
            loaded.close()
    loaded = load(context)
    runner = loaded.runner
    begin = time.monotonic()
    assert isinstance(runner, CudaRunner | EagerRunner)
    assert runner.scorer is not None
    runner.scorer.compile(dynamic=False)
    try:
        measure(context, loaded, batch, LENGTHS[-1])
    except Exception as error:  # no compiler, or code that this torch cannot compile
        line = (str(error).splitlines() or [type(error).__name__])[0]
        context.emit(TABLE, what=f"torch.compile failed: {line:.80}")
        return
    ready = round(time.monotonic() - begin, 1)
    figures = measure(context, loaded, batch, LENGTHS[-1])
    context.emit(TABLE, what=f"torch.compile, ready after {ready} s", **figures)
    loaded.close()
