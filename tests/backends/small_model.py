"""A real emotion2vec, small or of full size: a directory as FunASR publishes them."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

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
FIVE = (
    "生气/angry",
    "unuse_0",
    "unuse_1",
    "开心/happy",
    "中立/neutral",
    "unuse_2",
    "难过/sad",
    "unuse_3",
    "<unk>",
)
"""The labels of the first published revisions, which scored five classes."""

SEED = 7
"""Not 0: FunASR seeds with 0, and a model of seed 0 hides that its weights were never loaded."""

SPEC = "[(64, 10, 5)] + [(64, 3, 2)] * 4 + [(64,2,2)] + [(64,2,2)]"
DIM = 64
HEADS = 4

CONFIG: dict[str, Any] = {
    "model": "Emotion2vec",
    "model_conf": {
        "depth": 1,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_heads": HEADS,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "encoder_dropout": 0.1,
        "post_mlp_drop": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.0,
        "layerdrop": 0.0,
        "embed_dim": DIM,
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
                "num_alibi_heads": HEADS,
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


def require() -> None:
    """Fail, not skip, without torch and funasr: an untested backend must not look tested."""
    try:
        import torch  # noqa: F401  # only whether it can be imported

        with warnings.catch_warnings():
            # The import of funasr turns off all warnings; the tests want theirs back afterwards.
            import funasr.models.emotion2vec.model  # noqa: F401  # likewise
    except ImportError as error:
        raise RuntimeError(
            f"{error}: these tests need torch and funasr; run `make test`, or "
            "`pip install -e '.[emotion2vec,dev]'` first"
        ) from error


def full_size(dim: int, heads: int) -> dict[str, Any]:
    """The configuration of seed and base (768, 12) or large (1024, 16)."""
    config = copy.deepcopy(CONFIG)
    model, audio = config["model_conf"], config["model_conf"]["modalities"]["audio"]
    model |= {"depth": 8, "embed_dim": dim, "num_heads": heads}
    audio |= {"prenet_depth": 4, "model_depth": 8, "num_alibi_heads": heads}
    audio["feature_encoder_spec"] = SPEC.replace("64", "512")
    return config


def build(
    directory: Path,
    tokens: tuple[str, ...] = NINE,
    published: bool = False,
    config: dict[str, Any] = CONFIG,
) -> Path:
    """Write a model of random weights into `directory` (made if need be) and return it.

    `published` names and wraps the weights as the published checkpoints do, with the optimiser's
    state beside them; else the file is a bare state_dict.
    """
    require()
    import torch
    from funasr.models.emotion2vec.model import Emotion2vec

    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        network = Emotion2vec(
            model_conf=copy.deepcopy(config["model_conf"]), vocab_size=len(tokens)
        )
        # Fresh weights leave all logits near zero; livelier ones make every comparison sharper.
        with torch.no_grad():
            network.proj.weight.mul_(4.0)
            network.modality_encoders["AUDIO"].alibi_scale.uniform_(0.5, 1.5)
    stored: dict[str, Any] = network.state_dict()
    if published:
        named = {n if n.startswith("proj.") else f"d2v_model.{n}": v for n, v in stored.items()}
        stored = {"args": None, "model": named, "last_optimizer_state": {"state": {}}}
    torch.save(stored, directory / "model.pt")
    (directory / "tokens.txt").write_text("\n".join(tokens), "utf-8")
    write_config(directory, config)
    (directory / "configuration.json").write_text(json.dumps(CONFIGURATION), "utf-8")
    return directory


def write_config(directory: Path, config: dict[str, Any]) -> None:
    """Write config.yaml; JSON is YAML."""
    (directory / "config.yaml").write_text(json.dumps(config), "utf-8")
