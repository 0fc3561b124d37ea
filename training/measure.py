"""Figures from logits: recall, calibration, activation. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOUR = ("angry", "happy", "neutral", "sad")
"""The classes that every corpus has; figures over them ignore the model's other labels."""
AROUSED, CALM = ("angry", "happy", "fearful"), ("neutral", "sad")
"""The two sides of the activation index."""
BINS = 10


@dataclass(frozen=True)
class Figures:
    """Unweighted average recall, accuracy, expected calibration error, confidence: all 0 to 1."""

    clips: int
    uar: float
    accuracy: float
    ece: float
    confidence: float

    def __str__(self) -> str:
        parts = (self.uar, self.accuracy, self.ece, self.confidence)
        return f"{self.clips:6d} " + " ".join(f"{100 * x:6.1f}" for x in parts)


@dataclass(frozen=True)
class Bin:
    """Clips with confidence in one tenth: their number, mean confidence and accuracy."""

    clips: int
    confidence: float
    accuracy: float


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = powers / powers.sum(axis=1, keepdims=True)
    return share


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """Return the temperature of least negative log-likelihood of `truth` int[n], to 2 percent."""
    candidates = np.exp(np.arange(-1.5, 2.0, 0.02))
    rows = np.arange(len(truth))
    losses = [-np.log(softmax(logits / t)[rows, truth] + 1e-12).mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def reliability(posteriors: Floats, truth: Ints) -> list[Bin]:
    """Return confidence and accuracy in ten bins; empty bins have zeros."""
    confidence = posteriors.max(axis=1)
    correct = posteriors.argmax(axis=1) == truth
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        here = index == number
        count = int(here.sum())
        means = (
            (float(confidence[here].mean()), float(correct[here].mean())) if count else (0.0, 0.0)
        )
        bins.append(Bin(count, *means))
    return bins


def recalls(guess: Ints, truth: Ints) -> dict[int, float]:
    """Return the recall of each label that occurs."""
    return {
        int(label): float((guess[truth == label] == label).mean()) for label in np.unique(truth)
    }


def confusion(guess: Ints, truth: Ints, labels: int) -> Floats:
    """Return shares float[truth, guess]; rows sum to 1, or to 0 if a label does not occur."""
    counts = np.zeros((labels, labels))
    np.add.at(counts, (truth, guess), 1)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def measure(logits: Floats, truth: Ints) -> Figures:
    """Return figures of calibrated logits float[n, labels]; calibration error over ten bins."""
    posteriors = softmax(logits)
    guess = posteriors.argmax(axis=1)
    bins = reliability(posteriors, truth)
    return Figures(
        clips=len(truth),
        uar=float(np.mean(list(recalls(guess, truth).values()))),
        accuracy=float((guess == truth).mean()),
        ece=sum(b.clips * abs(b.accuracy - b.confidence) for b in bins) / len(truth),
        confidence=float(posteriors.max(axis=1).mean()),
    )


def choose_labels(logits: Floats, names: Sequence[str], labels: Sequence[str]) -> Floats:
    """Return the columns of `labels` only, as if the model had no others."""
    columns: Floats = logits[:, [names.index(label) for label in labels]]
    return columns


def activation(logits: Floats, names: Sequence[str]) -> Floats:
    """Return the activation index float[n]: aroused against calm labels, 0.5 is balanced."""
    posteriors = softmax(logits)
    sides = [[names.index(x) for x in side if x in names] for side in (AROUSED, CALM)]
    up, down = (posteriors[:, side].sum(axis=1) for side in sides)
    share: Floats = up / (up + down)
    return share


def activation_recall(logits: Floats, names: Sequence[str], emotions: Sequence[str]) -> float:
    """Return the UAR of aroused against calm clips at a threshold of 0.5; others are omitted."""
    rated = np.array([emotion in AROUSED + CALM for emotion in emotions])
    truth = np.array([emotion in AROUSED for emotion in emotions])[rated]
    guess = activation(logits, names)[rated] > 0.5
    return float(np.mean([guess[truth].mean(), (~guess[~truth]).mean()]))
