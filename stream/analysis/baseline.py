"""Running baseline of one voice: what its scores look like when nothing is special. Pure.

Models mistake a voice for an emotion: some voices sound sad or angry to them whatever they say. The
baseline is the running mean of a channel's logits; scores are moved by a part of its distance from
the model's reference, towards what is unusual for this voice. It needs no labels and sees only the
past. Subtracting a speaker's mean is common in speaker and emotion recognition (cepstral mean
normalisation: Atal 1974).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from stream.labels import activation

Row = NDArray[np.float32]
"""One number per label."""

ASIDE = ("other", "unknown")
"""Labels that are no emotion: their shares are not moved, and utterances with them on top are not
learned from."""

CALM = "neutral"
KEPT_CALM = 0.75
"""Share of a voice's surplus of neutral that is not subtracted: most people are calm most of the
time, and a voice that is always calm must not turn into something else (training/README.md)."""

MAX_UTTERANCES = 100
"""Utterances whose activation is kept for the median."""

MIN_UTTERANCES = 3
"""Utterances before a change of activation is reported."""


@dataclass(frozen=True, slots=True)
class BaselineSettings:
    """Strength of the baseline.

    After `s` seconds of speech its weight is `s / (s + prior_s)`, at most `max_weight`. Speech
    older than `memory_s` seconds of speech is slowly forgotten.
    """

    prior_s: float = 20.0
    max_weight: float = 0.7
    memory_s: float = 300.0


@dataclass(frozen=True, slots=True)
class BaselineState:
    """Seconds of speech that the baseline rests on, its weight, and the median activation."""

    speech_s: float
    weight: float
    activation: float | None


class Baseline:
    """Baseline of one channel.

    `reference` are the logits of an average voice, float32[labels]; a voice like it is not
    changed. Empty: all zero.
    """

    def __init__(
        self, labels: Sequence[str], reference: Sequence[float], settings: BaselineSettings
    ) -> None:
        self._labels = tuple(labels)
        self._settings = settings
        self.emotions = np.array([label not in ASIDE for label in labels])
        """Which labels are emotions, bool[labels]."""
        average = np.asarray(reference or [0.0] * len(labels), np.float32)
        self._reference = self._centered(average)
        self._mean = self._reference.copy()
        self._activations: list[float] = []
        self.speech_s = 0.0
        self.shift: Row = np.zeros(len(self._labels), np.float32)
        """Logits to subtract now, float32[labels]; 0 for labels that are no emotion."""

    @property
    def weight(self) -> float:
        """Share of the distance from the reference that is subtracted, 0 to `max_weight`."""
        speech = self.speech_s
        return min(self._settings.max_weight, speech / (speech + self._settings.prior_s))

    @property
    def state(self) -> BaselineState:
        enough = len(self._activations) >= MIN_UTTERANCES
        middle = round(median(self._activations), 4) if enough else None
        return BaselineState(round(self.speech_s, 2), round(self.weight, 3), middle)

    def add(self, logits: Row, scores: Mapping[str, float], speech_s: float) -> None:
        """Learn from one utterance: mean logits float32[labels], its unmoved scores, seconds."""
        if speech_s <= 0 or max(scores, key=scores.__getitem__) in ASIDE:
            return
        self.speech_s += speech_s
        part = min(1.0, speech_s / min(self.speech_s, self._settings.memory_s))
        self._mean += np.float32(part) * (self._centered(logits) - self._mean)
        self.shift = np.float32(self.weight) * (self._mean - self._reference)
        if CALM in self._labels:
            calm = self._labels.index(CALM)
            if self.shift[calm] > 0:
                self.shift[calm] *= np.float32(1 - KEPT_CALM)
        value = activation(scores)
        if value is not None:
            self._activations = [*self._activations[1 - MAX_UTTERANCES :], value]

    def _centered(self, logits: Row) -> Row:
        """Return logits with mean 0 over the emotions, and 0 for labels that are no emotion."""
        center = logits[self.emotions].mean()
        return np.where(self.emotions, logits - center, np.float32(0))


def adapted(logits: Row, shift: Row, emotions: NDArray[np.bool_]) -> Row:
    """Return logits moved by `-shift`; the total share of the emotions stays the same.

    All arguments have one entry per label; `emotions` tells which labels are emotions.
    """
    moved = logits - shift
    if emotions.all():
        return moved
    before, after = logits[emotions], moved[emotions]
    mass = _log_sum(before) - _log_sum(after)
    return np.asarray(np.where(emotions, moved + mass, logits), np.float32)


def _log_sum(row: Row) -> np.float32:
    top = row.max()
    return np.float32(top + np.log(np.exp(row - top).sum()))
