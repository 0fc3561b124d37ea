"""Emotion labels, and values derived from their scores."""

from __future__ import annotations

from collections.abc import Mapping

from stream.types import Body

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

EXCITED, CALM = ("angry", "fearful", "happy"), ("neutral", "sad")


def activation(scores: Mapping[str, float]) -> float | None:
    """Return the activation of a voice, 0 calm to 1: the share of `EXCITED` in `EXCITED` + `CALM`.

    It is valid across languages, unlike the labels themselves (docs/model-card.md). None if the
    scores contain neither.
    """
    excited = sum(scores.get(label, 0.0) for label in EXCITED)
    total = excited + sum(scores.get(label, 0.0) for label in CALM)
    return round(excited / total, 4) if total else None


def top(scores: Mapping[str, float]) -> Body | None:
    """Return the label with the largest share and that share, or None if there are no scores."""
    if not scores:
        return None
    label = max(scores, key=scores.__getitem__)
    return {"label": label, "score": scores[label]}
