"""Calibration on what was left out of training: biases, temperature, the average voice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream.analysis.baseline import ASIDE
from training.data import Array
from training.measure import Floats, Ints, fit_temperature
from training.model import Head

CALM_PART = 0.25
"""Share of calm speech in the average voice of `reference`; the rest is acted, all labels alike."""


class LeftOut:
    """Logits float[rows, labels] by name; each row scored by a head that did not learn from it."""

    def __init__(self, labels: int) -> None:
        self._labels = labels
        self.logits: dict[str, Floats] = {}

    def score(self, head: Head, views: dict[str, Array], rows: NDArray[np.bool_]) -> None:
        """Score some rows of every view."""
        for name, means in views.items():
            empty = np.full((len(means), self._labels), np.nan)
            self.logits.setdefault(name, empty)[rows] = logits_of(head, means[rows])

    def shift(self, label: int, by: float) -> None:
        """Add to the logit of a label."""
        for rows in self.logits.values():
            rows[:, label] += by


def logits_of(head: Head, means: Array) -> Floats:
    """Return logits float[n, labels] of mean features float32[n, features]."""
    with torch.no_grad():
        logits: Floats = head(torch.from_numpy(means)).numpy().astype(np.float64)
    return logits


def lead(logits: Floats, label: int) -> Floats:
    """Return how far the largest logit of the other labels is above that of `label`, float[n]."""
    finite = logits[np.isfinite(logits).all(axis=1)]
    return np.asarray(np.delete(finite, label, axis=1).max(axis=1) - finite[:, label])


def neutral_shift(calm: LeftOut, corpora: NDArray[np.str_], label: int, share: float) -> float:
    """Return what to add to the logit of `neutral` so that it wins a share of calm speech.

    `corpora` are those of the rows; they weigh the same.
    """
    leads = {
        corpus: np.concatenate(
            [lead(rows[corpora == corpus], label) for rows in calm.logits.values()]
        )
        for corpus in np.unique(corpora)
    }
    weights = np.concatenate([np.full(len(x), 1 / (len(leads) * len(x))) for x in leads.values()])
    values = np.concatenate(list(leads.values()))
    order = np.argsort(values)
    reached = int(np.searchsorted(np.cumsum(weights[order]), share))
    return float(values[order][min(reached, len(order) - 1)])


def joint_temperature(parts: Sequence[tuple[Floats, Ints]]) -> float:
    """Return the temperature that fits logits float[n, labels] and truth int[n] of several parts.

    The parts weigh the same.
    """
    least = min(len(truth) for _, truth in parts)
    logits = np.concatenate([z[np.linspace(0, len(z) - 1, least).astype(int)] for z, _ in parts])
    truth = np.concatenate([y[np.linspace(0, len(y) - 1, least).astype(int)] for _, y in parts])
    return fit_temperature(logits, truth)


def balanced_means(parts: Iterable[tuple[Floats, Ints]]) -> Floats:
    """Return the mean logits of every label of every part, float[labels of parts, labels]."""
    return np.stack([z[truth == i].mean(axis=0) for z, truth in parts for i in np.unique(truth)])


def reference(labels: Sequence[str], acted: Sequence[float], calm: Sequence[float]) -> list[float]:
    """Return the logits of an average voice, for the baseline: mean 0 over the emotions."""
    emotions = np.array([label not in ASIDE for label in labels])
    mixed = (1 - CALM_PART) * np.asarray(acted) + CALM_PART * np.asarray(calm)
    return [round(float(x), 3) for x in np.where(emotions, mixed - mixed[emotions].mean(), 0.0)]
