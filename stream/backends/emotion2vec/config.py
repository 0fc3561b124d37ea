"""What a checkpoint's own config.yaml and tokens.txt say about its network. Runs no code."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.errors import ModelRefused
from stream.types import FRAME

Conv = tuple[int, int, int]
"""Channels out, kernel width and stride of a convolution over time."""

MAX_LAYERS = 64
"""More than any such network has; a specification must not be able to fill the memory."""

# This engine computes the network that was published. A file that asks for another is refused:
# running it as if it were this one would give scores that look right and are not.
_MODEL_IS = {"layer_norm_first": False, "norm_affine": True}
_AUDIO_IS = {
    "extractor_mode": "layer_norm",
    "conv_pos_pre_ln": False,
    "use_alibi_encoder": True,
    "learned_alibi": False,
    "learned_alibi_scale_per_layer": False,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a network; `prenet` blocks and `depth` blocks are alike and in a row."""

    convs: tuple[Conv, ...]
    dim: int
    heads: int
    prenet: int
    depth: int
    mlp: int
    norm_eps: float
    extra_tokens: int
    alibi_scales: int
    position_layers: int
    position_width: int
    position_groups: int
    normalize: bool

    def frames(self, samples: int) -> int:
        """Frames that come out of `samples` at 16 kHz."""
        for _, width, stride in self.convs:
            samples = (samples - width) // stride + 1
        return samples


def read_shape(path: Path) -> Shape:
    """The shape that a config.yaml describes. Raises ModelRefused naming file and key."""
    config = _parse(path)
    try:
        network, model = config["model"], config["model_conf"]
        audio: Mapping[str, Any] = model["modalities"]["audio"]
        spec = audio["feature_encoder_spec"]
    except (KeyError, TypeError) as error:
        raise ModelRefused(f"{path} describes no emotion2vec: {error!r}") from error
    if network != "Emotion2vec":
        raise ModelRefused(f"{path} says model: {network}, expected Emotion2vec")
    for section, expected in ((model, _MODEL_IS), (audio, _AUDIO_IS)):
        for key, value in expected.items():
            if section.get(key, False) != value:
                raise ModelRefused(
                    f"{path}: {key} must be {value}, found {section.get(key)}: this engine runs "
                    "emotion2vec+ as published and nothing else"
                )
    convs = _convs(path, spec)
    dim, heads = _count(path, model, "embed_dim"), _count(path, model, "num_heads")
    layers = _count(path, audio, "conv_pos_depth")
    shape = Shape(
        convs=convs,
        dim=dim,
        heads=heads,
        prenet=_count(path, audio, "prenet_depth", least=0),
        depth=_count(path, model, "depth", least=0),
        mlp=int(dim * _number(path, model, "mlp_ratio")),
        norm_eps=_number(path, model, "norm_eps"),
        extra_tokens=_count(path, audio, "num_extra_tokens"),
        alibi_scales=heads if audio.get("learned_alibi_scale_per_head") else 1,
        position_layers=layers,
        position_width=max(3, _count(path, audio, "conv_pos_width") // layers),
        position_groups=_count(path, audio, "conv_pos_groups"),
        normalize=bool(model.get("normalize")),
    )
    if _count(path, audio, "num_alibi_heads") != heads:
        raise ModelRefused(f"{path}: num_alibi_heads must be num_heads ({heads})")
    for key, divisor in (("num_heads", heads), ("conv_pos_groups", shape.position_groups)):
        if dim % divisor:
            raise ModelRefused(f"{path}: embed_dim {dim} cannot be divided by {key} {divisor}")
    if math.prod(stride for _, _, stride in convs) != FRAME:
        raise ModelRefused(f"{path}: feature_encoder_spec must have a stride of {FRAME} samples")
    return shape


def read_tokens(path: Path) -> tuple[str, ...]:
    """The lines of tokens.txt, one label each: `生气/angry`, `unuse_0`, `<unk>`."""
    try:
        return tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path} cannot be read ({error}): fetch the model again") from error


def used_labels(path: Path, tokens: tuple[str, ...]) -> dict[int, str]:
    """Index in the head → English label, without the `unuse*` of the five-class revisions."""
    used = {
        index: "unknown" if token == "<unk>" else token.rpartition("/")[2]
        for index, token in enumerate(tokens)
        if not token.startswith("unuse")
    }
    if not used or len(set(used.values())) < len(used):
        raise ModelRefused(
            f"{path}: labels must differ, found {', '.join(used.values()) or 'none'}"
        )
    return used


def _parse(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ModelRefused(f"{path} describes no emotion2vec: {why}") from error


def _count(path: Path, section: Mapping[str, Any], key: str, least: int = 1) -> int:
    value = section.get(key)
    if type(value) is not int or not least <= value <= 1 << 16:
        raise ModelRefused(f"{path}: {key} must be a whole number from {least}, found {value!r}")
    return value


def _number(path: Path, section: Mapping[str, Any], key: str) -> float:
    # The published `1e-05` is a string in YAML 1.1, which PyYAML reads.
    try:
        value = float(section[key])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 0 < value < 1 << 16:
        raise ModelRefused(f"{path}: {key} must be a positive number, found {section.get(key)!r}")
    return value


def _convs(path: Path, spec: object) -> tuple[Conv, ...]:
    """`[(512, 10, 5)] + [(512, 3, 2)] * 4` as a value: FunASR would `eval` it."""
    try:
        return tuple(_layers(ast.parse(str(spec), mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelRefused(
            f"{path}: feature_encoder_spec must be sums and products of lists of three whole "
            f"numbers each, like [(512, 10, 5)] + [(512, 3, 2)] * 4; found {spec!r}"
        ) from error


def _layers(node: ast.expr) -> list[Conv]:
    match node:
        case ast.List(elts=items):
            layers = [_conv(item) for item in items]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            layers = _layers(left) + _layers(right)
        case ast.BinOp(left=repeated, op=ast.Mult(), right=ast.Constant(value=int(times))) | (
            ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=repeated)
        ) if 0 < times <= MAX_LAYERS:
            layers = _layers(repeated) * times
        case _:
            raise ValueError("no list")
    if not 0 < len(layers) <= MAX_LAYERS:
        raise ValueError("too few or too many layers")
    return layers


def _conv(node: ast.expr) -> Conv:
    channels, width, stride = _whole(node)
    return channels, width, stride


def _whole(node: ast.expr) -> Iterator[int]:
    if not isinstance(node, ast.Tuple | ast.List):
        raise ValueError("no tuple")
    for item in node.elts:
        if not isinstance(item, ast.Constant) or type(item.value) is not int:
            raise ValueError("no whole number")
        if not 0 < item.value <= 1 << 16:
            raise ValueError("out of range")
        yield item.value
