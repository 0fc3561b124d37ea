"""A model with a head of the operator's own: features of another backend, and one linear layer.

`python -m training.adapt` writes its directory: `model.json`, which names the base, and `head.npz`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.backends.base import Backend, Embedder, Staging
from stream.errors import ModelRefused
from stream.labels import LABELS
from stream.types import ModelInfo

Array = NDArray[np.float32]

REMEDY = "run python -m training.adapt again"

FIELDS: dict[str, type | tuple[type, ...]] = {
    "base": str,
    "base_id": str,
    "base_revision": str,
    "id": str,
    "revision": str,
    "labels": list,
    "temperature": (int, float),
    "licence": str,
    "sha256": str,
}
"""Required fields of model.json."""


class AdaptedBackend:
    """Frame features of a base, and their logits float32[dim, labels] and float32[labels]."""

    def __init__(self, base: Embedder, weight: Array, bias: Array, info: ModelInfo) -> None:
        self._base = base
        self._weight = weight
        self._bias = bias
        self._info = info

    @property
    def info(self) -> ModelInfo:
        return self._info

    def infer(self, batch: Array) -> Array:
        """Return logits float32[batch, frames, labels] of float32[batch, samples] (`Backend`)."""
        return self.embed(batch)[0]

    def embed(self, batch: Array) -> tuple[Array, Array]:
        """Return the logits as `infer` does, and the features of the base."""
        features = self._base.embed(batch)[1]
        return features @ self._weight + self._bias, features

    def staging(self, rows: int, samples: int) -> Array:
        """Return the memory from which the base reads windows fastest (`Staging`)."""
        if isinstance(self._base, Staging):
            return self._base.staging(rows, samples)
        return np.empty((rows, samples), np.float32)

    def close(self) -> None:
        """Release the base."""
        self._base.close()


def is_adapted(directory: Path) -> bool:
    """Return whether a model directory was written by training.adapt."""
    return (directory / "head.npz").is_file()


def load(directory: Path, load_base: Callable[[str], Backend], why: str = "") -> Backend:
    """Load an adapted model; `load_base` loads the backend of the name that model.json has.

    Raises ModelRefused, naming the file and the remedy, if a file is missing or damaged, or if the
    base is another model than the one that the head was fitted on.
    """
    about = _read(directory / "model.json")
    weight, bias = _head(directory / "head.npz", about)
    base = load_base(about["base"])
    try:
        info = base.info
        found = (info.id, info.revision)
        if found != (about["base_id"], about["base_revision"]):
            raise ModelRefused(
                f"{directory} was fitted on {about['base_id']} {about['base_revision']}, but the "
                f"base here is {' '.join(found)}: install that version, or {REMEDY}"
            )
        if not isinstance(base, Embedder) or weight.shape[0] != info.dim:
            raise ModelRefused(
                f"{directory / 'head.npz'} takes {weight.shape[0]} features and {info.id} has "
                f"{info.dim}: {REMEDY}"
            )
    except ModelRefused:
        base.close()
        raise
    labels = tuple(about["labels"])
    adapted = replace(
        info,
        id=about["id"],
        revision=about["revision"],
        labels=labels,
        missing_labels=tuple(label for label in LABELS if label not in labels),
        temperature=float(about["temperature"]),
        licence=about["licence"],
        reference=tuple(about.get("reference", ())),
        why=why or info.why,
        base=info.features,
    )
    return AdaptedBackend(base, weight, bias, adapted)


def _read(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read ({error}): {REMEDY}") from error
    for name, kind in FIELDS.items():
        value = about.get(name) if isinstance(about, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ModelRefused(f'{path} lacks a valid "{name}": {REMEDY}')
    labels = about["labels"]
    if len(labels) < 2 or len(set(labels)) != len(labels) or not set(labels) <= set(LABELS):
        raise ModelRefused(
            f"{path} has labels {labels}: expected two or more distinct ones of {', '.join(LABELS)}"
        )
    if not 0 < about["temperature"] < float("inf"):
        raise ModelRefused(f"{path} has temperature {about['temperature']}: expected above 0")
    reference = about.get("reference", [])
    if reference and (
        len(reference) != len(labels)
        or not all(isinstance(value, int | float) for value in reference)
        or not np.isfinite(reference).all()
    ):
        raise ModelRefused(
            f"{path} has reference {reference}: expected one finite logit per label, or none"
        )
    return about


def _head(path: Path, about: dict[str, Any]) -> tuple[Array, Array]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error}): {REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ModelRefused(f"{path} does not match the sha256 in model.json: {REMEDY}")
    with np.load(path, allow_pickle=False) as stored:
        weight = np.asarray(stored["weight"], np.float32)
        bias = np.asarray(stored["bias"], np.float32)
    count = len(about["labels"])
    if weight.ndim != 2 or weight.shape[1] != count or bias.shape != (count,):
        raise ModelRefused(
            f"{path} has weights {list(weight.shape)} and bias {list(bias.shape)} for {count} "
            f"labels: {REMEDY}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ModelRefused(f"{path} contains NaN or infinity: {REMEDY}")
    return weight, bias
