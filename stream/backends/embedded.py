"""The small model that ships with Emotide: ONNX on one CPU thread, no download, no GPU."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.backends.base import Backend
from stream.errors import ModelRefused
from stream.labels import LABELS
from stream.types import ModelInfo

SHIPPED = Path(__file__).parent / "models" / "embedded"

BATCH_SIZES = (1,)
"""On a CPU a batch is no cheaper per window, and all its windows wait for the last one."""

REQUIRED: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "revision": str,
    "labels": list,
    "missing_labels": list,
    "frame_hop": int,
    "lengths": list,
    "temperature": (int, float),
    "licence": str,
    "sha256": str,
}
"""Required fields of model.json. It may have more, such as training data and figures."""


class EmbeddedBackend:
    """An ONNX session. `load` creates it and checks it against model.json."""

    def __init__(self, session: Any, info: ModelInfo) -> None:
        self._session = session
        self._info = info
        self._options = _run_options()

    @property
    def info(self) -> ModelInfo:
        return self._info

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32[batch, frames, labels] of float32[batch, samples] (`Backend`)."""
        return self._run(["logits"], batch)[0]

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits as `infer` does, and their features float32[batch, frames, dim]."""
        logits, features = self._run(["logits", "features"], batch)
        return logits, features

    def _run(self, outputs: list[str], batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the session once per row, and of the graph only what leads to `outputs`.

        An 8-bit model scales a call's inputs by their range, so rows in one call would change
        each other; and a batch is no cheaper here.
        """
        audio = np.ascontiguousarray(batch, np.float32)
        rows = [
            self._session.run(outputs, {"audio": row}, self._options)
            for row in np.split(audio, len(audio))
        ]
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

    def close(self) -> None:
        self._session = None


def _run_options() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    # Without it every call computes the embedding, which few sessions ask for.
    options.only_execute_path_to_fetches = True
    return options


def load(directory: Path | None = None, threads: int = 1, why: str = "") -> Backend:
    """Load model.onnx and model.json from `directory`, by default the shipped model.

    `threads` is the maximum number of cores for one batch. Raises ModelRefused, naming the file
    and the remedy, if a file is missing, damaged or not as model.json describes it.
    """
    folder = directory or SHIPPED
    about = _read_json(folder / "model.json")
    info = _info(folder / "model.json", about, why)
    session = _session(folder / "model.onnx", about["sha256"], threads)
    backend = EmbeddedBackend(session, info)
    _dry_run(folder / "model.onnx", backend)
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelRefused(f"{path} is missing: {_remedy(path)}") from None
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read ({error}): {_remedy(path)}") from error
    if not isinstance(about, dict):
        raise ModelRefused(f"{path} is not a JSON object: {_remedy(path)}")
    for name, type_ in REQUIRED.items():
        if not isinstance(about.get(name), type_) or isinstance(about.get(name), bool):
            raise ModelRefused(f'{path} lacks a valid "{name}": {_remedy(path)}')
    return about


def _info(path: Path, about: dict[str, Any], why: str) -> ModelInfo:
    unknown = [label for label in about["labels"] + about["missing_labels"] if label not in LABELS]
    if unknown or len(set(about["labels"])) != len(about["labels"]) or not about["labels"]:
        raise ModelRefused(
            f"{path} has labels {about['labels']}: expected distinct labels, each one of "
            f"{', '.join(LABELS)}"
        )
    lengths, hop = about["lengths"], about["frame_hop"]
    if not lengths or hop <= 0 or any(type(n) is not int or n <= 0 or n % hop for n in lengths):
        raise ModelRefused(
            f"{path} has lengths {lengths} and frame_hop {hop}: expected lengths in samples that "
            "are multiples of the hop"
        )
    default = about.get("default_lengths", [])
    if not isinstance(default, list) or any(n not in lengths for n in default):
        raise ModelRefused(
            f"{path} has default_lengths {default}: expected some of its lengths {lengths}"
        )
    if not 0 < about["temperature"] < float("inf"):
        raise ModelRefused(f"{path} has temperature {about['temperature']}: expected above 0")
    if type(about.get("dim", 0)) is not int or about.get("dim", 0) < 0:
        raise ModelRefused(
            f"{path} has dim {about['dim']}: expected the size of the features, or 0"
        )
    values = {f.name: about[f.name] for f in fields(ModelInfo) if f.name in about}
    reference = about.get("reference", [])
    if reference and (
        len(reference) != len(about["labels"])
        or any(type(value) not in (int, float) or not isfinite(value) for value in reference)
    ):
        raise ModelRefused(
            f"{path} has reference {reference}: expected one finite logit per label, or none"
        )
    for name in ("labels", "missing_labels", "lengths", "default_lengths", "reference"):
        values[name] = tuple(values.get(name, ()))
    return ModelInfo(**(values | {"batch_sizes": BATCH_SIZES, "device": "cpu", "why": why}))


def _session(path: Path, sha256: str, threads: int) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}): {_remedy(path)}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelRefused(f"{path} does not match the sha256 in model.json: {_remedy(path)}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelRefused(
            f"{path} needs onnxruntime, which cannot be imported ({error}): pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads sleep, so the server uses no CPU between two windows.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena never frees the peak memory of a shape; plain allocation costs no time here.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises about a dozen types of its own
        raise ModelRefused(f"{path} cannot be loaded ({error}): {_remedy(path)}") from error


def _dry_run(path: Path, backend: EmbeddedBackend) -> None:
    """Score two rows of silence of every length; refuse shapes other than those of model.json."""
    info = backend.info
    for length in info.lengths:
        expected = (2, length // info.frame_hop, len(info.labels))
        silence = np.zeros((2, length), np.float32)
        try:
            logits = backend.infer(silence)
            features = backend.embed(silence)[1] if info.dim else logits[..., :0]
        except Exception as error:  # as above
            raise ModelRefused(f"{path} cannot score {length} samples ({error})") from error
        if logits.shape != expected or logits.dtype != np.float32:
            raise ModelRefused(
                f"{path} returns {logits.dtype}{list(logits.shape)} for {length} samples, but "
                f"model.json declares float32{list(expected)}: export both again"
            )
        if features.shape != (*expected[:2], info.dim):
            raise ModelRefused(
                f"{path} returns features {list(features.shape)} for {length} samples, but "
                f"model.json declares {[*expected[:2], info.dim]}: export both again"
            )
        if not np.isfinite(logits).all():
            raise ModelRefused(f"{path} returns NaN or infinity for silence: export it again")


def _remedy(path: Path) -> str:
    if path.parent == SHIPPED:
        return "reinstall Emotide"
    return "export the model again with training.export, or use another directory"
