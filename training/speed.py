"""CPU time per window of the shipped file against a plain float32 export of the same model."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from stream.backends.base import Backend
from training.data import LENGTHS, RATE, Array
from training.model import Emotion

ROUNDS = 15


@dataclass(frozen=True)
class Cost:
    """Median CPU time in ms per window of `seconds`, of the shipped model and the plain export."""

    seconds: int
    batch: int
    shipped: float
    plain: float


def plain_export(model: Emotion) -> Callable[[Array], object]:
    """Export the model in float32 with torch's exporter; return a call of it on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "plain.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(2, max(LENGTHS)),),
            str(path),
            input_names=["audio"],
            dynamic_axes={"audio": {0: "batch", 1: "samples"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    return lambda audio: session.run(None, {"audio": audio})


def cpu_ms(call: Callable[[Array], object], audio: Array) -> float:
    began = time.process_time()
    call(audio)
    return 1000 * (time.process_time() - began) / len(audio)


def costs(backend: Backend, model: Emotion) -> list[Cost]:
    """Measure both, alternating in one process, for every length and batches of 1 and 8."""
    plain, rng = plain_export(model), np.random.default_rng(0)
    measured: list[Cost] = []
    for length in LENGTHS:
        for batch in (1, 8):
            audio = rng.normal(0, 0.1, (batch, length)).astype(np.float32)
            rounds = [
                (cpu_ms(backend.infer, audio), cpu_ms(plain, audio)) for _ in range(ROUNDS + 2)
            ]
            shipped, other = np.median(rounds[2:], axis=0)
            measured.append(Cost(length // RATE, batch, float(shipped), float(other)))
    return measured
