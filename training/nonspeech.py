"""Emotions in sounds without speech against `unknown` in speech, in the server's own pipeline."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stream.analysis.quality import hints
from stream.backends.base import Backend
from stream.types import ModelInfo, Segment
from training.data import RATE, Array, decode
from training.measure import Floats, softmax
from training.product import utterances

KINDS = (
    "noises, IRs",
    "infant cries (non-speech)",
    "music/birds",
    "tones",
    "DTMF, hold music",
    "ambience, keyboard",
)
"""Kinds of sounds.csv without speech."""

CALLS = ("call-centre (acted)",)
"""Kinds of sounds.csv with acted calls."""

WARNINGS = frozenset({"music", "noisy", "tone", "high_pitch", "low_confidence"})
"""Hints that the label is not to be trusted."""

CALM = frozenset({"neutral", "unknown"})
"""Labels that are no emotion."""


def read_sounds(path: Path, kinds: Sequence[str] = KINDS) -> dict[str, list[Array]]:
    """Read sounds, by kind, from a CSV with the columns path (relative to it) and kind."""
    sounds: dict[str, list[Array]] = {kind: [] for kind in kinds}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["kind"] in sounds:
                sounds[row["kind"]].append(decode(path.parent / row["path"]))
    return {kind: audio for kind, audio in sounds.items() if audio}


@dataclass(frozen=True)
class Utterances:
    """Utterances that the voice detector found in `seconds` of recordings.

    `logits` float[utterances, labels] are before the temperature.
    """

    info: ModelInfo
    seconds: float
    logits: Floats
    segments: Sequence[Segment]

    def shifted(self, label: str, by: float) -> Utterances:
        """Return the utterances as with another bias of a label."""
        logits = self.logits.copy()
        logits[:, self.info.labels.index(label)] += by
        return replace(self, logits=logits)

    def count(self, label: str) -> int:
        """Return the number of utterances with the label on top."""
        return int((self.logits.argmax(axis=1) == self.info.labels.index(label)).sum())

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def false_emotions(self) -> int:
        """Number of utterances with an emotion on top and no hint in `WARNINGS`."""
        shares = softmax(self.logits / self.info.temperature)
        count = 0
        for row, segment in zip(shares, self.segments, strict=True):
            top = self.info.labels[int(row.argmax())]
            doubts = hints(segment.quality, float(row.max()))
            count += top not in CALM and not WARNINGS.intersection(doubts)
        return count

    @property
    def per_10_min(self) -> float:
        """False emotions per ten minutes."""
        return self.false_emotions * 600 / self.seconds


def hear(backend: Backend, recordings: Sequence[Array]) -> Utterances:
    """Return the utterances of recordings."""
    logits, found = utterances(backend, recordings)
    seconds = sum(len(audio) for audio in recordings) / RATE
    return Utterances(backend.info, seconds, logits, found)


def joined(parts: Mapping[str, Utterances]) -> Utterances:
    """Return the utterances of all parts."""
    first = next(iter(parts.values()))
    logits = np.concatenate([part.logits for part in parts.values()])
    segments = [segment for part in parts.values() for segment in part.segments]
    return Utterances(first.info, sum(p.seconds for p in parts.values()), logits, segments)


@dataclass(frozen=True)
class CurvePoint:
    """A bias of `unknown`, added to the shipped one, and its effect."""

    shift: float
    per_10_min: float
    unknown: tuple[float, ...]


def curve(
    sounds: Utterances, speech: Sequence[Utterances], shifts: Sequence[float]
) -> Iterator[CurvePoint]:
    """Yield false emotions in sounds, and the share of `unknown` in each kind of speech."""
    for shift in shifts:
        shares = [
            part.shifted("unknown", shift).count("unknown") / max(1, len(part)) for part in speech
        ]
        yield CurvePoint(shift, sounds.shifted("unknown", shift).per_10_min, tuple(shares))
