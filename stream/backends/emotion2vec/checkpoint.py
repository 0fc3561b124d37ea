"""From a checkpoint file to a network whose every weight is the file's, or a refusal."""

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

_PORTION = 64 << 20

# The published files name the network `d2v_model.`, and the head beside it plainly `proj.`;
# `module.` is left behind by data-parallel training.
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
    """The network of `shape` with a head for `labels` tokens, filled from the checkpoint `path`.

    Raises ModelRefused unless the file holds exactly the network's parameters, finite and in
    their shapes; what only training needed is passed over. On the CPU, in float32, ready to infer.
    Needs the memory of the network and little more, however much else the file holds.
    """
    with torch.device("meta"):
        network = Network(shape, labels)
    wanted = {published_name(name, shape): name for name in network.state_dict()}
    empty = network.state_dict()
    stored = _weights(path)
    found = {name: tensor.shape for name, tensor in stored.items()}
    del stored
    both = wanted.keys() & found.keys()
    _refuse(path, "lacks", wanted.keys() - found.keys())
    _refuse(path, "holds unknown", found.keys() - wanted.keys())
    misshapen = {name for name in both if empty[wanted[name]].shape != found[name]}
    _refuse(path, "holds in another shape", misshapen)

    filled: dict[str, Any] = {}
    sizes = {name: empty[wanted[name]].numel() * 4 for name in found}
    # A file of torch's old format cannot be mapped, only read at once.
    limit = _PORTION if zipfile.is_zipfile(path) else sum(sizes.values())
    for portion in _portions(sizes, limit):
        # The file is mapped anew for each portion, so that the pages already copied are let go.
        stored = _weights(path)
        for name in portion:
            meta = empty[wanted[name]]
            filled[wanted[name]] = torch.empty_strided(meta.shape, meta.stride()).copy_(
                stored[name]
            )
        del stored
    _refuse(
        path,
        "holds NaN or infinity in",
        {name for name, own in wanted.items() if not filled[own].isfinite().all()},
    )
    network.load_state_dict(filled, assign=True)
    network.eval().requires_grad_(False)
    return network


def published_name(name: str, shape: Shape) -> str:
    """What the published checkpoints call our parameter `name`."""
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
    for ours, theirs in _PUBLISHED:
        rest, changed = re.subn("^" + ours, theirs, rest)
        if changed:
            break
    return start + rest


def _weights(path: Path) -> dict[str, Any]:
    """The network's tensors in a checkpoint, by their published names, mapped from disk."""
    try:
        stored = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelRefused(
            f"{path} cannot be read, it is damaged or incomplete ({line}): fetch the model again"
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
            raise ModelRefused(f"{path} holds {name} twice: fetch the model again")
        weights[name] = value
    return weights


def _portions(sizes: dict[str, int], limit: int) -> Iterable[list[str]]:
    """The names in groups of about `limit` bytes."""
    portion: list[str] = []
    size = 0
    for name, bytes_of_it in sizes.items():
        portion.append(name)
        size += bytes_of_it
        if size >= limit:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _refuse(path: Path, fault: str, names: Iterable[str]) -> None:
    ordered = sorted(names)
    if ordered:
        rest = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
        raise ModelRefused(
            f"{path} {fault} {', '.join(ordered[:3])}{rest}: fetch the model again, with the "
            "config.yaml and tokens.txt that belong to it"
        )
