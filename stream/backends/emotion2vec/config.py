"""Network shape and labels from a checkpoint's config.yaml and tokens.txt; no code is run."""

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
"""Limit above any published network, so that a specification cannot exhaust the memory."""

# This engine computes the published network. A file that specifies another one is refused, because
# running it would produce plausible but wrong scores.
_REQUIRED_MODEL = {"layer_norm_first": False, "norm_affine": True}
_REQUIRED_AUDIO = {
    "extractor_mode": "layer_norm",
    "conv_pos_pre_ln": False,
    "use_alibi_encoder": True,
    "learned_alibi": False,
    "learned_alibi_scale_per_layer": False,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a network; its `prenet` and `depth` blocks are of the same kind."""

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
        """Return the number of frames for `samples` at 16 kHz."""
        for _, width, stride in self.convs:
            samples = (samples - width) // stride + 1
        return samples


def read_shape(path: Path) -> Shape:
    """Return the shape that a config.yaml describes. Raises ModelRefused naming file and key."""
    config = _parse(path)
    try:
        network, model = config["model"], config["model_conf"]
        audio: Mapping[str, Any] = model["modalities"]["audio"]
        spec = audio["feature_encoder_spec"]
    except (KeyError, TypeError) as error:
        raise ModelRefused(f"{path} does not describe an emotion2vec: {error!r}") from error
    if network != "Emotion2vec":
        raise ModelRefused(f"{path} has model: {network}, expected Emotion2vec")
    for section, expected in ((model, _REQUIRED_MODEL), (audio, _REQUIRED_AUDIO)):
        for key, value in expected.items():
            if section.get(key, False) != value:
                raise ModelRefused(
                    f"{path}: {key} must be {value}, found {section.get(key)}: only the published "
                    "emotion2vec+ is supported"
                )
    convs = _convs(path, spec)
    dim, heads = _count(path, model, "embed_dim"), _count(path, model, "num_heads")
    layers = _count(path, audio, "conv_pos_depth")
    shape = Shape(
        convs=convs,
        dim=dim,
        heads=heads,
        prenet=_count(path, audio, "prenet_depth", minimum=0),
        depth=_count(path, model, "depth", minimum=0),
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
            raise ModelRefused(f"{path}: embed_dim {dim} must be divisible by {key} {divisor}")
    if math.prod(stride for _, _, stride in convs) != FRAME:
        raise ModelRefused(f"{path}: feature_encoder_spec must have a stride of {FRAME} samples")
    return shape


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the lines of tokens.txt, one label each: `生气/angry`, `unuse_0`, `<unk>`."""
    try:
        return tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path} cannot be read ({error}): download the model again") from error


def used_labels(path: Path, tokens: tuple[str, ...]) -> dict[int, str]:
    """Map index in the head to English label, without the `unuse*` of five-class revisions."""
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
        reason = " ".join(str(error).split())
        raise ModelRefused(f"{path} does not describe an emotion2vec: {reason}") from error


def _count(path: Path, section: Mapping[str, Any], key: str, minimum: int = 1) -> int:
    value = section.get(key)
    if type(value) is not int or not minimum <= value <= 1 << 16:
        raise ModelRefused(
            f"{path}: {key} must be a whole number from {minimum} to 65536, found {value!r}"
        )
    return value


def _number(path: Path, section: Mapping[str, Any], key: str) -> float:
    # The published `1e-05` is a string in YAML 1.1, the version that PyYAML reads.
    try:
        value = float(section[key])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 0 < value < 1 << 16:
        raise ModelRefused(f"{path}: {key} must be a positive number, found {section.get(key)!r}")
    return value


def _convs(path: Path, spec: object) -> tuple[Conv, ...]:
    """Parse `[(512, 10, 5)] + [(512, 3, 2)] * 4` without `eval`, which FunASR uses."""
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
            raise ValueError("not a list")
    if not 0 < len(layers) <= MAX_LAYERS:
        raise ValueError("too few or too many layers")
    return layers


def _conv(node: ast.expr) -> Conv:
    channels, width, stride = _integers(node)
    return channels, width, stride


def _integers(node: ast.expr) -> Iterator[int]:
    if not isinstance(node, ast.Tuple | ast.List):
        raise ValueError("not a tuple")
    for item in node.elts:
        if not isinstance(item, ast.Constant) or type(item.value) is not int:
            raise ValueError("not a whole number")
        if not 0 < item.value <= 1 << 16:
            raise ValueError("out of range")
        yield item.value
