"""The trained model: encoder and head; the mean of its frame logits is the utterance's logits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.whisper import Encoder, Shape


class Head(nn.Module):
    """Features float32[..., features] of frames → logits float32[..., labels].

    `out` is linear in the features, so the logits of their mean are the mean of the frame logits.
    The outputs of `project` are the embedding.
    """

    def __init__(self, features: int, labels: int, components: int) -> None:
        super().__init__()
        self.out = nn.Linear(features, labels)
        self.project = nn.Linear(features, components)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits


class Emotion(nn.Module):
    """Audio float32[rows, samples] → logits float32[rows, samples // 320, labels]."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, audio: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(audio))
        return logits


def save_model(path: Path, model: Emotion) -> None:
    """Write the encoder's shape and all weights as one npz file, atomically."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    weights |= {f"shape.{k}": np.array(v) for k, v in asdict(model.encoder.shape).items()}
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, allow_pickle=False, **weights)
    unfinished.replace(path)


def load_model(path: Path) -> Emotion:
    """Read a file of `save_model`; return the model, ready for inference."""
    with np.load(path) as stored:
        arrays = dict(stored)
    shape = Shape(**{k: int(arrays.pop(f"shape.{k}")) for k in asdict(Shape())})
    state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    components, features = state["head.project.weight"].shape
    model = Emotion(Encoder(shape), Head(features, len(state["head.out.bias"]), components))
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    return model
