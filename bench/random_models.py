"""emotion2vec+ models with random weights, in FunASR's format. Requires only numpy and torch.

Speed, memory and numerical agreement do not depend on the weights, so they can be measured without
the published ones.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

from stream.backends.emotion2vec.config import Shape, read_shape

NINE = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
"""tokens.txt of the published models."""

SEED = 7
"""Not 0: FunASR seeds torch with 0, which would hide weights that were never loaded."""

SPEC = "[(64, 10, 5)] + [(64, 3, 2)] * 4 + [(64,2,2)] + [(64,2,2)]"
"""Front end of a small model; the published ones have 512 channels instead of 64."""

CONFIG: dict[str, Any] = {
    "model": "Emotion2vec",
    "model_conf": {
        "depth": 1,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_heads": 4,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "encoder_dropout": 0.1,
        "post_mlp_drop": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.0,
        "layerdrop": 0.0,
        "embed_dim": 64,
        "mlp_ratio": 4.0,
        "layer_norm_first": False,
        "end_of_block_targets": False,
        "clone_batch": 8,
        "normalize": True,
        "modalities": {
            "audio": {
                "type": "AUDIO",
                "prenet_depth": 1,
                "prenet_layerdrop": 0.0,
                "prenet_dropout": 0.1,
                "start_drop_path_rate": 0.0,
                "end_drop_path_rate": 0.0,
                "num_extra_tokens": 10,
                "init_extra_token_zero": True,
                "local_grad_mult": 1.0,
                "use_alibi_encoder": True,
                "alibi_scale": 1.0,
                "learned_alibi": False,
                "alibi_max_pos": None,
                "learned_alibi_scale": True,
                "learned_alibi_scale_per_head": True,
                "learned_alibi_scale_per_layer": False,
                "num_alibi_heads": 4,
                "model_depth": 1,
                "decoder": None,
                "extractor_mode": "layer_norm",
                "feature_encoder_spec": SPEC,
                "conv_pos_width": 95,
                "conv_pos_groups": 16,
                "conv_pos_depth": 5,
                "conv_pos_pre_ln": False,
            }
        },
    },
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    "scope_map": ["d2v_model.", "none"],
}
"""config.yaml of a small model."""

CONFIGURATION = {
    "framework": "pytorch",
    "task": "emotion-recognition",
    "pipeline": {"type": "funasr-pipeline"},
    "model": {"type": "funasr"},
    "file_path_metas": {
        "init_param": "model.pt",
        "tokenizer_conf": {"token_list": "tokens.txt"},
        "config": "config.yaml",
    },
}
"""configuration.json, which names the other files for FunASR."""


_GAINS = {"head": 2.0, ".out.": 0.3, "fc2": 0.3}
"""Gains of weights whose variance must not be 1 / inputs. Large outputs of the blocks make all
windows alike, and a small output of the head leaves all logits near 0; both hide differences."""


def full_size(dim: int, heads: int) -> dict[str, Any]:
    """Return the config.yaml of a published shape: (768, 12) or (1024, 16)."""
    config = _sized(dim, heads, prenet=4, depth=8)
    audio = config["model_conf"]["modalities"]["audio"]
    audio["feature_encoder_spec"] = SPEC.replace("64", "512")
    return config


def _sized(dim: int, heads: int, prenet: int, depth: int) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    model, audio = config["model_conf"], config["model_conf"]["modalities"]["audio"]
    model |= {"depth": depth, "embed_dim": dim, "num_heads": heads}
    audio |= {"prenet_depth": prenet, "model_depth": depth, "num_alibi_heads": heads}
    return config


CONFIGS = {
    "tiny": CONFIG,
    "small": _sized(128, 8, prenet=1, depth=3),
    "seed": full_size(768, 12),
    "base": full_size(768, 12),
    "large": full_size(1024, 16),
}
"""Configurations by name; seed and base differ only in their weights."""


def build(directory: Path, name: str) -> Path:
    """Write a model of the shape `name` into `directory`, unless it is there; return it.

    The checkpoint is float32 and names its weights as the published ones do.
    """
    if (directory / "model.pt").is_file():
        return directory
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, CONFIGS[name])
    (directory / "tokens.txt").write_text("\n".join(NINE), "utf-8")
    (directory / "configuration.json").write_text(json.dumps(CONFIGURATION), "utf-8")
    part = directory / "model.pt.part"
    torch.save({"model": _weights(read_shape(directory / "config.yaml"))}, part)
    part.rename(directory / "model.pt")
    return directory


def write_config(directory: Path, config: dict[str, Any]) -> None:
    """Write config.yaml; JSON is YAML."""
    (directory / "config.yaml").write_text(json.dumps(config), "utf-8")


def _weights(shape: Shape) -> dict[str, Any]:
    """Return random weights by their published names."""
    import torch

    from stream.backends.emotion2vec.checkpoint import published_name
    from stream.backends.emotion2vec.model import Network

    with torch.device("meta"):
        network = Network(shape, len(NINE))
    dice = torch.Generator().manual_seed(SEED)
    weights: dict[str, Any] = {}
    for name, empty in network.state_dict().items():
        if name == "alibi_scale":
            value = torch.rand(empty.shape, generator=dice) + 0.5
        elif "norm" in name or empty.ndim == 1:
            value = torch.full(empty.shape, float("norm" in name and name.endswith("weight")))
            value += 0.02 * torch.randn(empty.shape, generator=dice)
        else:
            gain = next((gain for part, gain in _GAINS.items() if part in name), 1.0)
            fan_in = math.prod(empty.shape[1:])
            value = torch.randn(empty.shape, generator=dice) * (gain / math.sqrt(fan_in))
        published = published_name(name, shape)
        weights[published if published.startswith("proj.") else f"d2v_model.{published}"] = value
    return weights
