"""Loading of a checkpoint file into a network; every weight must come from the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from stream.backends.emotion2vec.config import Shape
from stream.backends.emotion2vec.model import Network
from stream.errors import ModelRefused

_CHUNK_BYTES = 64 << 20

# In the published files the network has the prefix `d2v_model.` and the head beside it just
# `proj.`. Data-parallel training adds the prefix `module.`.
_PREFIXES = ("module.", "d2v_model.")
_TRAINING_ONLY = frozenset({"decoder", "optimizer", "last_optimizer_state", "scheduler", "_ema"})

_AUDIO = "modality_encoders.AUDIO."
_PUBLISHED = (
    (r"frontend\.(\d+)\.weight", _AUDIO + r"local_encoder.conv_layers.\1.0.weight"),
    (r"frontend\.(\d+)\.norm", _AUDIO + r"local_encoder.conv_layers.\1.2.1"),
    (r"front_norm", _AUDIO + "project_features.1"),
    (r"front_proj", _AUDIO + "project_features.2"),
    (r"norm\.", _AUDIO + "context_encoder.norm."),
    (r"(extra_tokens|alibi_scale)", _AUDIO + r"\1"),
    (r"head", "proj"),
    (r"\.qkv", ".attn.qkv"),
    (r"\.out", ".attn.proj"),
    (r"\.(fc\d)", r".mlp.\1"),
)


def load_network(path: Path, shape: Shape, labels: int) -> Network:
    """Return the network of `shape` with a head for `labels` tokens, loaded from `path`.

    Raises ModelRefused unless the file holds exactly the network's parameters, finite and in
    their shapes; state that only training needs is ignored. The network is on the CPU, in float32,
    ready to infer. Loading needs little more memory than the network, whatever else is in the file.
    """
    with torch.device("meta"):
        network = Network(shape, labels)
    expected = {published_name(name, shape): name for name in network.state_dict()}
    empty = network.state_dict()
    stored = _weights(path)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    del stored
    both = expected.keys() & shapes.keys()
    _refuse(path, "lacks", expected.keys() - shapes.keys())
    _refuse(path, "contains unknown", shapes.keys() - expected.keys())
    misshapen = {name for name in both if empty[expected[name]].shape != shapes[name]}
    _refuse(path, "has a wrong shape for", misshapen)

    filled: dict[str, Any] = {}
    sizes = {name: empty[expected[name]].numel() * 4 for name in shapes}
    # A file in torch's old format cannot be memory-mapped, only read at once.
    limit = _CHUNK_BYTES if zipfile.is_zipfile(path) else sum(sizes.values())
    for chunk in _chunks(sizes, limit):
        # The file is mapped again for each chunk, so that pages already copied are freed.
        stored = _weights(path)
        for name in chunk:
            meta = empty[expected[name]]
            filled[expected[name]] = torch.empty_strided(meta.shape, meta.stride()).copy_(
                stored[name]
            )
        del stored
    _refuse(
        path,
        "contains NaN or infinity in",
        {name for name, parameter in expected.items() if not filled[parameter].isfinite().all()},
    )
    network.load_state_dict(filled, assign=True)
    network.eval().requires_grad_(False)
    return network


def published_name(name: str, shape: Shape) -> str:
    """Return the name of our parameter `name` in the published checkpoints."""
    if match := re.match(r"positions\.(\d+)\.conv", name):
        start = f"{_AUDIO}relative_positional_encoder.{int(match[1]) + 1}.0"
        return start + name[match.end() :]
    if (match := re.match(r"blocks\.(\d+)", name)) and (index := int(match[1])) < shape.prenet:
        start = f"{_AUDIO}context_encoder.blocks.{index}"
    elif match:
        start = f"blocks.{index - shape.prenet}"
    else:
        start = ""
    rest = name[match.end() :] if match else name
    for pattern, published in _PUBLISHED:
        rest, changed = re.subn("^" + pattern, published, rest)
        if changed:
            break
    return start + rest


def _weights(path: Path) -> dict[str, Any]:
    """Return the network's tensors of a checkpoint by published name, memory-mapped."""
    try:
        stored = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # torch raises about six types for damaged files
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelRefused(
            f"{path} cannot be read: it is damaged or incomplete ({line}); download the model again"
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(stored, dict) and wrapper in stored:
            stored = stored[wrapper]
    weights: dict[str, Any] = {}
    for name, value in stored.items() if isinstance(stored, dict) else ():
        if not isinstance(value, torch.Tensor) or _TRAINING_ONLY & set(name.split(".")):
            continue
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name in weights:
            raise ModelRefused(f"{path} contains {name} twice: download the model again")
        weights[name] = value
    return weights


def _chunks(sizes: dict[str, int], limit: int) -> Iterable[list[str]]:
    """Yield the names in groups of about `limit` bytes."""
    chunk: list[str] = []
    size = 0
    for name, name_bytes in sizes.items():
        chunk.append(name)
        size += name_bytes
        if size >= limit:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _refuse(path: Path, fault: str, names: Iterable[str]) -> None:
    ordered = sorted(names)
    if ordered:
        rest = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
        raise ModelRefused(
            f"{path} {fault} {', '.join(ordered[:3])}{rest}: download the model again, with the "
            "config.yaml and tokens.txt that belong to it"
        )
