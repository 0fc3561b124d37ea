"""The exported graph with int8 products: a third of the size, and faster on a CPU."""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.backends.emotion2vec.exported import ExportedRunner
from stream.backends.emotion2vec.locate import Files
from stream.errors import ModelRefused

INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Processor flags of int8 product instructions (x86 VNNI and AMX, Arm dot product)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """int8 against float32 on this machine, on speech-like windows of 3 s.

    `speed` is the ratio of CPU times, `worst` the largest difference of a score, `flips` the
    number of windows with another top label.
    """

    speed: float
    worst: float
    flips: int
    windows: int


def int8_instructions() -> tuple[str, ...]:
    """Return those of `INSTRUCTIONS` that this processor has; () if that is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", errors="ignore")
    except OSError:
        return ()
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").split())
    return tuple(name for name in INSTRUCTIONS if name in flags)


def quantize(files: Files) -> Path:
    """Write the int8 graph beside the float32 one, which must exist; return its path.

    Weights have a scale per output. Inputs of a product are scaled at run time, window by window,
    so no calibration data is needed and rows do not influence each other. Without VNNI or AMX,
    weights keep 7 bits, because the older instructions saturate (onnxruntime's documentation on
    quantization).
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ModelRefused("int8 needs the package onnx: pip install onnx sympy") from error
    x86 = platform.machine() in ("x86_64", "AMD64")
    with tempfile.TemporaryDirectory(dir=files.int8.parent) as folder:
        part = Path(folder) / files.int8.name
        # It warns on the root logger that shapes were not inferred before; MatMul needs no shapes.
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(
                files.export,
                part,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=x86 and not int8_instructions(),
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(before)
        graph = onnx.load(part)
        if not graph.metadata_props:
            graph.metadata_props.extend(onnx.load(files.export).metadata_props)
            onnx.save(graph, part)
        return part.replace(files.int8)


def compare(files: Files, windows: NDArray[np.float32], threads: int = 1) -> Comparison:
    """Compare speed and scores of both graphs, alternating, over windows float32[n, 3 s]."""
    runners = [ExportedRunner(path, files.revision, threads) for path in (files.export, files.int8)]
    seconds = [0.0, 0.0]
    scores: list[list[NDArray[np.float64]]] = [[], []]
    for row in windows:
        for i, runner in enumerate(runners):
            begin = time.process_time()
            logits = runner.run(row[None])[0].mean(axis=0, dtype=np.float64)
            seconds[i] += time.process_time() - begin
            powers = np.exp(logits - logits.max())
            scores[i].append(powers / powers.sum())
    exact, near = (np.stack(each) for each in scores)
    flips = int((exact.argmax(axis=1) != near.argmax(axis=1)).sum())
    worst = float(np.abs(exact - near).max())
    return Comparison(seconds[0] / seconds[1], worst, flips, len(windows))
