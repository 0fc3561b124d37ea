"""Real emotion2vec models with random weights, small or full size, laid out as published."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

from bench.random_models import (
    CONFIG,
    CONFIGURATION,
    NINE,
    SEED,
    SPEC,
    full_size,
    write_config,
)

__all__ = [
    "CONFIG",
    "CONFIGURATION",
    "FIVE",
    "NINE",
    "SPEC",
    "build",
    "full_size",
    "write_config",
]

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


def require() -> None:
    """Raise without torch and funasr; a skipped test would make the backend look tested."""
    try:
        import torch  # noqa: F401  # checks that it can be imported

        with warnings.catch_warnings():
            # The import of funasr turns off all warnings; the tests need theirs afterwards.
            import funasr.models.emotion2vec.model  # noqa: F401  # likewise
    except ImportError as error:
        raise RuntimeError(
            f"{error}: these tests need torch and funasr; run `make test`, or "
            "`pip install -e '.[emotion2vec,dev]'` first"
        ) from error


def build(
    directory: Path,
    tokens: tuple[str, ...] = NINE,
    published: bool = False,
    config: dict[str, Any] = CONFIG,
) -> Path:
    """Write a model with random weights into `directory`, created if missing; return it.

    If `published`, the weights are named and wrapped as in the published checkpoints, beside the
    optimiser's state; else the file is a bare state_dict.
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
        # Fresh weights leave all logits near zero; larger ones make comparisons more sensitive.
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
