"""A linear head on utterance features: fitted, cross-validated by speaker, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.measure import (
    Figures,
    Floats,
    Ints,
    confusion,
    fit_temperature,
    measure,
    recalls,
    softmax,
)

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse L2 penalties that are tried, on features of unit variance."""

FOLDS, INNER_FOLDS = 5, 3

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """Logits of features: weight float32[dim, labels], bias float32[labels]."""

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float

    def logits(self, features: Features) -> Floats:
        """Return float64[n, labels] of float32[n, dim]."""
        return np.asarray(features @ self.weight + self.bias, np.float64)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a head on speakers that it was not fitted on, beside those of the base.

    `base` is None if the base shares fewer than two of the labels, or was not run on the clips.
    """

    labels: tuple[str, ...]
    clips: int
    speakers: int
    folds: int
    figures: Figures
    base: Figures | None
    recalls: dict[str, float]
    base_recalls: dict[str, float]
    confusion: Floats
    temperature: float

    @property
    def better(self) -> float | None:
        """UAR gained over the base, -1 to 1; None without a comparison."""
        return None if self.base is None else self.figures.uar - self.base.uar

    def table(self) -> str:
        """Return a Markdown table of the head and the one that it replaces."""
        lines = ["| | clips | UAR | accuracy | ECE |", "|---|---|---|---|---|"]
        for name, figures in (("new head", self.figures), ("head it replaces", self.base)):
            if figures is not None:
                shares = (figures.uar, figures.accuracy, figures.ece)
                cells = " | ".join(f"{100 * share:.1f}" for share in shares)
                lines.append(f"| {name} | {figures.clips} | {cells} |")
        return "\n".join(lines)


def fit(
    features: Features, labels: Sequence[str], speakers: Sequence[str], strength: float = 0.0
) -> Head:
    """Fit a head; every label counts the same. Strength 0: chosen by folds of speakers."""
    from sklearn.linear_model import LogisticRegression

    names = tuple(sorted(set(labels)))
    strength = strength or _strength(features, labels, speakers)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    model.fit((features - mean) / deviation, list(labels))
    weight, bias = model.coef_, model.intercept_
    if len(names) == 2:  # one row for the second label
        weight, bias = np.vstack([-weight / 2, weight / 2]), np.array([-bias[0], bias[0]]) / 2
    weight = weight.T / deviation[:, None]
    bias = bias - mean @ weight
    return Head(names, weight.astype(np.float32), bias.astype(np.float32), strength)


def cross_validate(
    features: Features,
    labels: Sequence[str],
    speakers: Sequence[str],
    base: Sequence[NDArray[np.float32] | None],
    base_labels: Sequence[str],
) -> Evaluation:
    """Measure heads on the speakers that they were not fitted on, and the base on the same clips.

    `base` has the base's log shares float32[base_labels] of each clip, or None.
    """
    names = tuple(sorted(set(labels)))
    truth = np.array([names.index(label) for label in labels])
    held_out = np.zeros((len(labels), len(names)))
    folds = _folds(features, labels, speakers, FOLDS)
    for train, test in folds:
        head = fit(features[train], [labels[i] for i in train], [speakers[i] for i in train])
        columns = [names.index(label) for label in head.labels]
        rows = np.full((len(test), len(names)), -30.0)
        rows[:, columns] = head.logits(features[test])
        held_out[test] = rows
    temperature = fit_temperature(held_out, truth)
    calibrated = held_out / temperature
    guess: Ints = calibrated.argmax(1)
    base_figures, base_recalls = _base(names, truth, base, base_labels)
    return Evaluation(
        names,
        len(labels),
        len(set(speakers)),
        len(folds),
        measure(calibrated, truth),
        base_figures,
        {names[i]: share for i, share in recalls(guess, truth).items()},
        base_recalls,
        confusion(guess, truth, len(names)),
        temperature,
    )


def _base(
    names: Sequence[str],
    truth: Ints,
    base: Sequence[NDArray[np.float32] | None],
    base_labels: Sequence[str],
) -> tuple[Figures | None, dict[str, float]]:
    """Return figures of the base on the clips that it scored; a label it lacks is always wrong."""
    known = [i for i, row in enumerate(base) if row is not None]
    shared = [name for name in names if name in base_labels]
    if not known or len(shared) < 2:
        return None, {}
    rows = np.full((len(known), len(names)), -30.0)
    for at, i in enumerate(known):
        row = base[i]
        assert row is not None
        for name in shared:
            rows[at, names.index(name)] = row[list(base_labels).index(name)]
    figures = measure(rows, truth[known])
    found = recalls(rows.argmax(1), truth[known])
    return figures, {names[i]: share for i, share in found.items()}


def _strength(features: Features, labels: Sequence[str], speakers: Sequence[str]) -> float:
    """Return the strength with the least log loss on held-out speakers.

    Log loss rather than UAR, because it tells strengths apart that have equal recalls, and so the
    folds of a cross-validation choose alike and their logits have one scale.
    """
    names = sorted(set(labels))
    truth = np.array([names.index(label) for label in labels])
    folds = _folds(features, labels, speakers, INNER_FOLDS)

    def loss(strength: float) -> float:
        losses: list[float] = []
        for train, test in folds:
            head = fit(
                features[train],
                [labels[i] for i in train],
                [speakers[i] for i in train],
                strength,
            )
            columns = [names.index(label) for label in head.labels]
            rows = np.full((len(test), len(names)), -30.0)
            rows[:, columns] = head.logits(features[test])
            posteriors = softmax(rows)[np.arange(len(test)), truth[test]]
            losses += (-np.log(posteriors + 1e-6)).tolist()
        return float(np.mean(losses))

    return min(STRENGTHS, key=loss)


def _folds(
    features: Features, labels: Sequence[str], speakers: Sequence[str], folds: int
) -> list[tuple[Any, Any]]:
    """Split by speaker, with every label on each training side that can have two labels."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(folds, len(set(speakers)))
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    split = splitter.split(features, list(labels), list(speakers))
    return [
        (train, test) for train, test in split if len(test) and len({labels[i] for i in train}) > 1
    ]
