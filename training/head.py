"""The trained part: frames of the encoder → frame logits whose mean is the utterance's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """Frames float32[rows, frames, features] → logits float32[rows, frames, labels].

    A fixed whitening projection, one short convolution over time, one linear layer. Nothing is
    pooled inside: what the mean over frames shall express, the convolution has to say per frame.
    """

    def __init__(
        self,
        features: int,
        labels: int,
        components: int,
        width: int,
        kernel: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(features, components).requires_grad_(False)
        self.conv = nn.Conv1d(components, width, kernel, padding=kernel // 2)
        self.out = nn.Linear(width, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        return self.score(self.project(frames))

    def score(self, projected: Tensor) -> Tensor:
        """Logits of frames that were projected before, float32[rows, frames, components]."""
        x = self.dropout(projected).transpose(1, 2)
        x = functional.gelu(self.conv(x)).transpose(1, 2)
        logits: Tensor = self.out(self.dropout(x))
        return logits

    def whiten(self, frames: Tensor) -> None:
        """Set the projection to the whitened principal components of frames [n, features]."""
        mean = frames.mean(dim=0)
        power, axes = torch.linalg.eigh(torch.cov(frames.T))
        kept = self.project.out_features
        scaled = axes[:, -kept:] / power[-kept:].clamp(min=1e-8).sqrt()
        self.project.weight.copy_(scaled.T)
        self.project.bias.copy_(-mean @ scaled)


def save_head(path: Path, head: Head) -> None:
    """Write the weights as one npz."""
    weights = {name: value.numpy() for name, value in head.state_dict().items()}
    np.savez(path, allow_pickle=False, **weights)


def load_head(path: Path) -> Head:
    """Read what `save_head` wrote, ready for inference."""
    with np.load(path) as stored:
        state = {name: torch.from_numpy(value) for name, value in stored.items()}
    features = state["project.weight"].shape[1]
    width, components, kernel = state["conv.weight"].shape
    head = Head(features, len(state["out.bias"]), components, width, kernel)
    head.load_state_dict(state)
    head.eval()
    return head
