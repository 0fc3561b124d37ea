"""The trained model: encoder and head; the mean of its frame logits is the utterance's logits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.whisper import Encoder, Shape


class Head(nn.Module):
    """Frames float32[rows, frames, features] → logits float32[rows, frames, labels].

    A projection, whose outputs are the embedding, and one linear layer. Both are linear, so the
    logits of the mean frame are the mean of the frame logits.
    """

    def __init__(self, features: int, labels: int, components: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.project = nn.Linear(features, components)
        self.out = nn.Linear(components, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.project(frames)))
        return logits

    def whiten(self, frames: Tensor) -> None:
        """Set the projection to the whitened principal components of frames [n, features]."""
        mean = frames.mean(dim=0)
        power, axes = torch.linalg.eigh(torch.cov(frames.T))
        components = self.project.out_features
        scaled = axes[:, -components:] / power[-components:].clamp(min=1e-8).sqrt()
        with torch.no_grad():
            self.project.weight.copy_(scaled.T)
            self.project.bias.copy_(-mean @ scaled)


class Emotion(nn.Module):
    """Audio float32[rows, samples] → logits float32[rows, samples // 320, labels]."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, audio: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(audio))
        return logits

    def features(self, audio: Tensor) -> Tensor:
        """Return embeddings float32[rows, samples // 320, components]: the head's projection."""
        projected: Tensor = self.head.project(self.encoder(audio))
        return projected


def with_new_head(encoder: Encoder, labels: int, components: int, dropout: float = 0.0) -> Emotion:
    """Return the encoder with a new head of at most as many components as it has features."""
    features = encoder.shape.layers * encoder.shape.width
    return Emotion(encoder, Head(features, labels, min(components, features), dropout))


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
    head = Head(features, len(state["head.out.bias"]), components)
    model = Emotion(Encoder(shape), head)
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    return model
