"""Correctness of the device's scores, and behaviour without enough memory or devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu.part import Context
from stream.backends import emotion2vec
from stream.backends.emotion2vec import Emotion2vec, Precision
from stream.backends.emotion2vec.backend import LENGTHS, MAX_ROWS
from stream.backends.emotion2vec.signals import buzzes
from stream.errors import ModelRefused
from stream.inference.runner import BackendRunner

TABLE = "Correctness"
TOLERANCE = 1e-4
COMPARED = 32
"""Number of windows on which precisions are compared."""

LOGITS_TOLERANCE: dict[Precision, float] = {"float32": TOLERANCE, "bfloat16": 0.3, "float16": 0.05}
"""Largest difference of a frame's logits that another order of the same sums may cause. In bfloat16
noise of 3e-7 in the waveform changes them by up to 0.13, in float16 by 0.016 (seed shape, CPU)."""

Windows = NDArray[np.float32]


def run(context: Context) -> None:
    """Emit a row for each check: the largest difference, its bound, and whether it holds."""
    checks: tuple[Callable[[Context], Iterator[tuple[str, object, object]]], ...] = (
        _float32,
        _rows,
        _precisions,
        _graphs,
        _warm_up,
        _memory,
        _second_device,
    )
    for check in checks:
        if context.left() < 0:
            context.emit(TABLE, check=check.__name__[1:], found="not run: out of time", bound=None)
            continue
        for name, found, bound in check(context):
            holds = None
            if isinstance(found, float) and isinstance(bound, float):
                holds = "yes" if found <= bound else "NO"
            elif isinstance(found, bool):
                holds = "yes" if found else "NO"
                found = None
            context.emit(TABLE, check=name, found=found, bound=bound, holds=holds)


def _load(context: Context, precision: Precision = "float32", device: str = "") -> Emotion2vec:
    return emotion2vec.load(
        str(context.directory()),
        device or context.device,
        runtime="torch",
        precision=precision,
        offline=True,
    )


def _float32(context: Context) -> Iterator[tuple[str, object, object]]:
    """Compare float32 on the device with float32 on the CPU."""
    device, cpu = _load(context), _load(context, device="cpu")
    for samples in LENGTHS:
        windows = buzzes(2, samples)
        name = f"float32 equals the CPU, {samples / 16_000:g} s"
        yield name, _gap(device.infer(windows), cpu.infer(windows)), TOLERANCE
    logits, features = device.embed(windows)
    expected = cpu.embed(windows)[1]
    scale = float(np.abs(expected).max())
    yield "embeddings equal the CPU, of their scale", _gap(features, expected) / scale, TOLERANCE
    yield "embed gives the logits of infer", _gap(logits, device.infer(windows)), TOLERANCE
    device.close()
    cpu.close()


def _rows(context: Context) -> Iterator[tuple[str, object, object]]:
    """Compare a batch with its single rows, also next to rows that are not valid audio."""
    for precision in _precisions_of(context):
        device = _load(context, precision)
        windows = buzzes(8, LENGTHS[-1])
        alone = np.concatenate([device.infer(row[None]) for row in windows])
        together = device.infer(windows)
        yield (
            f"a batch equals its rows, {precision}",
            _gap(together, alone),
            LOGITS_TOLERANCE[precision],
        )
        invalid = windows.copy()
        invalid[1], invalid[3], invalid[5] = np.nan, np.inf, 1e30
        valid = [0, 2, 4, 6, 7]
        beside = device.infer(invalid)[valid]
        yield f"invalid rows affect no others, {precision}", _gap(beside, together[valid]), 0.0
        device.close()


def _precisions(context: Context) -> Iterator[tuple[str, object, object]]:
    """Compare half precisions with float32: probabilities and top labels."""
    windows = buzzes(COMPARED, LENGTHS[-1])
    exact = _scores(_load(context), windows)
    for precision in _precisions_of(context)[1:]:
        half = _scores(_load(context, precision), windows)
        yield f"{precision}: largest probability difference", _gap(half, exact), 0.05
        flips = int((half.argmax(axis=1) != exact.argmax(axis=1)).sum())
        yield f"{precision}: top labels that change, of {COMPARED}", flips, None


def _graphs(context: Context) -> Iterator[tuple[str, object, object]]:
    """Compare recorded graphs with direct calls, and results before and after the next call."""
    if context.on_cpu:
        yield "graphs equal direct calls", "not on a CPU", None
        return
    from stream.backends.emotion2vec.cuda import CudaRunner

    for precision in _precisions_of(context):
        recorded, direct = _load(context, precision), _load(context, precision)
        assert isinstance(direct.runner, CudaRunner)
        direct.runner.graphs = False
        same = moved = changed = 0.0
        for samples in LENGTHS:
            for rows in (1, 8):
                windows = buzzes(rows, samples)
                first, expected = recorded.infer(windows), direct.infer(windows)
                before = first.copy()
                again = recorded.infer(windows[::-1].copy())[::-1]
                same = max(same, _gap(first, expected))
                moved = max(moved, _gap(again, expected))
                changed = max(changed, _gap(first, before))
        yield f"graphs equal direct calls, {precision}", same, TOLERANCE
        yield f"rows in another order, {precision}", moved, LOGITS_TOLERANCE[precision]
        yield f"results outlive the next call, {precision}", changed, 0.0
        assert isinstance(recorded.runner, CudaRunner)
        yield f"graphs were captured, {precision}", recorded.runner.graphs, None
        recorded.close()
        direct.close()


def _warm_up(context: Context) -> Iterator[tuple[str, object, object]]:
    """Warm up every shape that a server with the default batch runs before it is ready."""
    device = _load(context, _precisions_of(context)[1])
    model = BackendRunner(device, 32)
    shapes = sum(1 for _ in model.warm_up(LENGTHS)) - 1
    yield (
        f"warm-up of {shapes} shapes, none too large",
        model.sizes[-1] == _largest_batch(device, 32),
        None,
    )
    if not context.on_cpu:
        used = torch.cuda.memory_reserved(context.device) / 1e6
        yield "GPU memory of all shapes up to 32 windows, MB", used, None
    device.close()


def _memory(context: Context) -> Iterator[tuple[str, object, object]]:
    """Score a batch that does not fit into memory: it is halved until it fits."""
    if context.on_cpu:
        yield "out of memory: halved, nothing lost", "not on a CPU", None
        return
    device = _load(context, "bfloat16")
    model = BackendRunner(device, MAX_ROWS)
    windows = buzzes(MAX_ROWS, LENGTHS[-1])
    expected = np.concatenate([device.infer(row[None]) for row in windows[:2]])
    with _memory_for_one(context):
        results = model.infer(list(windows), embed=False)
    scored = [result for result in results if result is not None]
    yield f"out of memory: {len(scored)} of {MAX_ROWS} windows scored", len(scored) == 128, None
    yield "batches are limited afterwards", model.sizes[-1], None
    if len(scored) == MAX_ROWS:
        gap = _gap(np.stack([logits for logits, _ in scored[:2]]), expected)
        yield "scores of halved batches equal single ones", gap, LOGITS_TOLERANCE["bfloat16"]
    gap = _gap(device.infer(windows[:2]), expected)
    yield "the device works on afterwards", gap, LOGITS_TOLERANCE["bfloat16"]
    device.close()


@contextmanager
def _memory_for_one(context: Context) -> Iterator[None]:
    """Limit this process to its current memory and 1.5 GB, enough for a few windows of 3 s."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(context.device).total_memory
    share = (torch.cuda.memory_reserved(context.device) + 1.5e9) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), _index(context))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, _index(context))


def _second_device(context: Context) -> Iterator[tuple[str, object, object]]:
    """Check that a valid device index is used and an invalid one is refused."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        _load(context, device=f"cuda:{count}")
        yield f"cuda:{count} is refused", False, None
    except ModelRefused:
        yield f"cuda:{count} is refused", True, None
    if count > 1:
        windows = buzzes(2, LENGTHS[0])
        first, second = _load(context, device="cuda:0"), _load(context, device="cuda:1")
        yield "cuda:1 equals cuda:0", _gap(second.infer(windows), first.infer(windows)), TOLERANCE


def _index(context: Context) -> int:
    """Return the device's index, which some functions of torch require."""
    return torch.device(context.device).index or 0


def _precisions_of(context: Context) -> tuple[Precision, ...]:
    """Return the precisions to check; not float16 on a CPU, which only emulates it."""
    return ("float32", "bfloat16") if context.on_cpu else ("float32", "bfloat16", "float16")


def _largest_batch(device: Emotion2vec, limit: int) -> int:
    return max(size for size in device.info.batch_sizes if size <= limit)


def _scores(backend: Emotion2vec, windows: Windows) -> NDArray[np.float64]:
    rows = backend.info.batch_sizes[-1]
    pieces = [backend.infer(windows[at : at + rows]) for at in range(0, len(windows), rows)]
    mean = np.concatenate(pieces).mean(axis=1, dtype=np.float64)
    powers = np.exp(mean - mean.max(axis=1, keepdims=True))
    backend.close()
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _gap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the largest difference; infinity if either is not finite."""
    gap = float(np.abs(one.astype(np.float64) - other).max())
    return gap if np.isfinite(gap) else float("inf")
