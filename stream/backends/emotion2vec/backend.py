"""The emotion2vec+ backend and its loader, which selects files, device and runtime."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream.backends.emotion2vec.config import read_shape, read_tokens, used_labels
from stream.backends.emotion2vec.locate import INSTALL, NAMES, Files, locate, missing_packages
from stream.backends.emotion2vec.runner import Runner, make_runner
from stream.errors import ModelRefused
from stream.labels import LABELS
from stream.types import FRAME, SAMPLE_RATE, ModelInfo

LICENCE = "FunASR Model License (weights), MIT (code)"
LENGTHS = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
BATCH_SIZES = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128), "cpu": (1,)}
"""On a CPU the time per window does not depend on the batch size. With single windows each result
is reported as soon as it is ready, and the next window is the newest of its stream: with 8 streams
half the lag of batches of 4."""
MAX_ROWS = 128

Runtime = Literal["auto", "torch", "onnx"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


class Emotion2vec:
    """A loaded emotion2vec+ model, created by `load`. Use from one thread."""

    def __init__(self, runner: Runner, info: ModelInfo) -> None:
        self.info = info
        self.runner = runner

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        """Return memory float32[rows, samples] from which `infer` reads fastest."""
        return self.runner.staging(rows, samples)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32[batch, frames, labels] of float32[batch, samples] at 16 kHz.

        frames = (samples - 400) // 320 + 1. Raises ValueError for a length that is not in `info`
        or more than `MAX_ROWS` rows: every shape costs memory, so no others are run.
        """
        return self.runner.run(self._checked(batch))

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits and the frames before the head: float32[batch, frames, dim].

        FunASR calls these frames `feats`.
        """
        return self.runner.embed(self._checked(batch))

    def _checked(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, samples = batch.shape
        if samples not in self.info.lengths or rows > MAX_ROWS:
            raise ValueError(
                f"windows {batch.shape}: expected at most {MAX_ROWS} rows of a length in "
                f"{self.info.lengths} samples"
            )
        return batch

    def close(self) -> None:
        """Release weights and memory."""
        self.runner.close()


def load(
    name_or_dir: str,
    device: str = "auto",
    why: str = "",
    offline: bool = False,
    threads: int = 1,
    runtime: Runtime = "auto",
    precision: Precision = "float32",
) -> Emotion2vec:
    """Load a model of `NAMES`, or a directory with config.yaml, tokens.txt and a checkpoint.

    `device` is "auto" or any torch device; `threads` is the number of CPU threads of one `infer`;
    `offline` forbids downloads. `runtime` "auto" selects onnxruntime if the device is the CPU and
    an export lies beside the checkpoint, else torch; "onnx" needs no torch. `precision` "bfloat16"
    and "float16" are for torch on a GPU, "int8" is for the CPU and an int8 export: it is faster,
    but its scores no longer agree to 1e-4.
    Raises ModelRefused, before any inference, unless every weight comes from the file. FunASR is
    not imported. Two settings of the process change: float32 stays float32 in torch (no TF32),
    because scores must not depend on the GPU, and idle OpenMP threads sleep.
    """
    missing = missing_packages()
    if missing and runtime != "onnx":
        raise ModelRefused(f"{name_or_dir} needs {' and '.join(missing)}: {INSTALL}")
    files = locate(name_or_dir, offline)
    # Torch builds with a bundled OpenMP read this once. Threads that spin while they wait take CPU
    # time from other processes on the same cores, and from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if precision == "int8":
        if runtime == "torch":
            raise ModelRefused('precision "int8" needs an export: set runtime = "auto"')
        runtime = "onnx"
    target = "cpu" if device == "cpu" or runtime == "onnx" else _torch_device(device)
    if runtime == "onnx" or (runtime == "auto" and target == "cpu" and files.export.is_file()):
        graph_file = files.int8 if precision == "int8" else files.export
        if precision not in ("float32", "int8") or device not in ("auto", "cpu"):
            raise ModelRefused(
                f'{graph_file} runs on the CPU in float32 or int8, not on "{device}" in '
                f'{precision}: set runtime = "torch"'
            )
        from stream.backends.emotion2vec import exported

        graph_runner = exported.ExportedRunner(graph_file, files.revision, threads)
        info = _info(name_or_dir, files, graph_runner.labels, graph_runner.dim, "cpu", why)
        return Emotion2vec(graph_runner, info)

    shape, tokens = read_shape(files.config), read_tokens(files.tokens)
    labels = used_labels(files.tokens, tokens)
    from stream.backends.emotion2vec import checkpoint

    network = checkpoint.load_network(files.weights, shape, len(tokens))
    runner = make_runner(network, list(labels), target, precision, threads)
    info = _info(name_or_dir, files, tuple(labels.values()), shape.dim, target, why)
    return Emotion2vec(runner, info)


def _info(
    name: str, files: Files, labels: tuple[str, ...], dim: int, device: str, why: str
) -> ModelInfo:
    return ModelInfo(
        id=name if name in NAMES else files.config.parent.resolve().name,
        revision=files.revision,
        labels=labels,
        frame_hop=FRAME,
        lengths=LENGTHS,
        batch_sizes=BATCH_SIZES["cuda" if device.startswith("cuda") else "cpu"],
        temperature=1.0,
        licence=LICENCE,
        device=device,
        why=why,
        missing_labels=tuple(label for label in LABELS if label not in labels),
        dim=dim,
    )


def _torch_device(device: str) -> str:
    """Return the torch device for "auto" on this machine, or `device` if it can be used."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelRefused(
            f'device "{device}" cannot be used: {line}; use "auto" or "cpu", or install a torch '
            "build for this device"
        ) from error
