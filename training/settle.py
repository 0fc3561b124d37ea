"""Fitting of the head ("settling"): a logistic regression on the mean features of windows.

Frame logits are linear in the features, so their mean is the logits of the mean: all that the head
can learn from a window is in one vector, and the best head is found exactly.

Four things beyond a plain regression:

- Corpora weigh the same, and so do the labels of each.
- Actors exaggerate. So every emotional sentence is learnt twice: as it was acted, and moved part of
  the way to the mean neutral sentence of its speaker (`milder`).
- Calm speech is learnt as neutral. A corpus without emotions also teaches how that corpus sounds,
  so afterwards the bias of neutral is set on calm voices that were left out (`calibrate`).
- Sounds against speech is a question of its own, asked when the emotions are fitted (`unknown`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.data import Array
from training.measure import AROUSED, CALM
from training.model import Head
from training.recipe import Recipe
from training.unknown import fit_unknown, minimise

Names = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows: features float32[n, features], labels, corpora and speakers."""

    features: Array
    labels: Names
    corpora: Names
    speakers: Names

    def __len__(self) -> int:
        return len(self.features)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Examples:
        """Return some of the windows."""
        return Examples(
            self.features[rows], self.labels[rows], self.corpora[rows], self.speakers[rows]
        )


def joined(parts: Sequence[Examples]) -> Examples:
    """Return the windows of all parts."""
    return Examples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.corpora for part in parts]),
        np.concatenate([part.speakers for part in parts]),
    )


def milder(examples: Examples, strength: float) -> Examples:
    """Return the emotional windows at `strength`: 1 as acted, 0 the speaker's mean neutral window.

    Speakers without a neutral window are omitted.
    """
    neutral = examples.labels == "neutral"
    voices = np.char.add(np.char.add(examples.corpora, "/"), examples.speakers)
    features, emotional = examples.features.copy(), np.zeros(len(examples), np.bool_)
    for voice in np.unique(voices[neutral]):
        own = voices == voice
        centre = examples.features[own & neutral].mean(axis=0)
        features[own] = centre + np.float32(strength) * (features[own] - centre)
        emotional |= own & ~neutral
    moved = Examples(features, examples.labels, examples.corpora, examples.speakers)
    return moved.select(emotional)


def balanced(examples: Examples) -> Array:
    """Return weights float32[n] that sum to 1: corpora weigh the same, and labels in each."""
    weights = np.zeros(len(examples))
    corpora = np.unique(examples.corpora)
    for corpus in corpora:
        labels = np.unique(examples.labels[examples.corpora == corpus])
        for label in labels:
            rows = (examples.corpora == corpus) & (examples.labels == label)
            weights[rows] = 1 / (len(corpora) * len(labels) * rows.sum())
    return weights.astype(np.float32)


def emotion_loss(logits: Tensor, truth: Tensor, labels: Sequence[str], recipe: Recipe) -> Tensor:
    """Return the cross-entropy of emotions plus that of aroused against calm, float32[n]."""
    loss = functional.cross_entropy(
        logits, truth, label_smoothing=recipe.smoothing, reduction="none"
    )
    sides = [[i for i, name in enumerate(labels) if name in side] for side in (AROUSED, CALM)]
    if not all(sides):
        return loss
    up, down = (torch.isin(truth, torch.tensor(side)) for side in sides)
    aroused, calm = (logits[:, side].logsumexp(dim=1) for side in sides)
    target = up.float() * 0.9 + 0.05
    extra = functional.binary_cross_entropy_with_logits(aroused - calm, target, reduction="none")
    return loss + recipe.activation * extra * (up | down)


def settle(
    acted: Examples,
    calm: Examples,
    speech: Sequence[Array],
    sounds: Sequence[Array],
    labels: Sequence[str],
    recipe: Recipe,
) -> Head:
    """Return a head fitted to acted emotions and calm speech, and to parts of speech and sounds.

    `labels` ends with `unknown` if there are sounds; only then is `speech` used. Calm speech may be
    empty.
    """
    emotions = [label for label in labels if label != "unknown"]
    features = np.concatenate([acted.features, calm.features])
    head = Head(features.shape[1], len(labels), min(recipe.components, features.shape[1]))
    set_projection(head, features)

    def inputs(rows: Array) -> Tensor:
        with torch.no_grad():
            projected: Tensor = head.project(torch.from_numpy(rows))
        return projected

    x_acted, x_calm = inputs(acted.features), inputs(calm.features)
    truth = torch.tensor([emotions.index(label) for label in acted.labels])
    weights = torch.from_numpy(balanced(acted))
    calm_weights = torch.from_numpy(balanced(calm))
    weight = torch.zeros(x_acted.shape[1], len(emotions), requires_grad=True)
    bias = torch.zeros(len(emotions), requires_grad=True)

    def loss() -> Tensor:
        total = weights @ emotion_loss(x_acted @ weight + bias, truth, emotions, recipe)
        total = total + recipe.ridge * weight.square().sum()
        if len(calm) and "neutral" in emotions:
            shares = (x_calm @ weight + bias).log_softmax(dim=1)
            neutral = -shares[:, emotions.index("neutral")]
            total = total + recipe.calm_weight * (calm_weights @ neutral)
        return total

    minimise([weight, bias], loss, recipe.iterations)
    weight, bias = weight.detach(), bias.detach()
    if "unknown" in labels:
        unknown = fit_unknown(
            inputs, (weight, bias), speech, sounds, recipe.unknown_ridge, recipe.iterations
        )
        weight, bias = (
            torch.cat(pair, dim=-1) for pair in zip((weight, bias), unknown, strict=True)
        )
    with torch.no_grad():
        # The projection is folded in: the server computes it only for embeddings.
        head.out.weight.copy_(weight.T @ head.project.weight)
        head.out.bias.copy_(bias + weight.T @ head.project.bias)
    head.requires_grad_(False).eval()
    return head


def set_projection(head: Head, features: Array) -> None:
    """Set the projection to the principal components of standardised features [n, features].

    Their variances are those of the standardised features, so a penalty on a weight means the same
    for every component.
    """
    x = torch.from_numpy(features)
    mean, deviation = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    _, axes = torch.linalg.eigh(torch.cov(((x - mean) / deviation).T))
    scaled = axes[:, -head.project.out_features :] / deviation[:, None]
    with torch.no_grad():
        head.project.weight.copy_(scaled.T)
        head.project.bias.copy_(-mean @ scaled)
