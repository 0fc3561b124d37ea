"""Emotion labels, and values derived from their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypedDict

from stream.fields import Share, Stated

LABELS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)
"""The nine labels of emotion2vec+, in its order. A backend with fewer omits the others."""

Label = Annotated[str, Stated(among=LABELS)]
"""One of the nine labels of emotion2vec+. Labels that a model lacks are absent, not zero."""

NEGATIVE = ("angry", "disgusted", "fearful", "sad")
EXCITED, CALM = ("angry", "fearful", "happy"), ("neutral", "sad")


class Top(TypedDict):
    """The label with the largest share; null in its place if nothing was scored."""

    label: Label
    score: Share


def activation(scores: Mapping[str, float]) -> float | None:
    """Return the activation of a voice, 0 calm to 1: the share of `EXCITED` in `EXCITED` + `CALM`.

    It is valid across languages, unlike the labels themselves (docs/model-card.md). None if the
    scores contain neither.
    """
    excited = sum(scores.get(label, 0.0) for label in EXCITED)
    total = excited + sum(scores.get(label, 0.0) for label in CALM)
    return round(excited / total, 4) if total else None


def negative(scores: Mapping[str, float]) -> float:
    """Return the share of `NEGATIVE` labels."""
    return round(sum(scores.get(label, 0.0) for label in NEGATIVE), 4)


def top(scores: Mapping[str, float]) -> Top | None:
    """Return the label with the largest share and that share, or None if there are no scores."""
    if not scores:
        return None
    label = max(scores, key=scores.__getitem__)
    return {"label": label, "score": scores[label]}
