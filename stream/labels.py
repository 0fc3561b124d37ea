"""Emotion labels, and what is derived from their scores."""

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
"""The nine labels of emotion2vec+, in its order. A backend with fewer leaves the others out."""

EXCITED, CALM = ("angry", "fearful", "happy"), ("neutral", "sad")


def activation(scores: Mapping[str, float]) -> float | None:
    """How excited a voice is, 0 calm to 1: `EXCITED` of what is `EXCITED` or `CALM`.

    It survives a change of language where the labels themselves do not (docs/model-card.md).
    None where the scores hold nothing of either.
    """
    excited = sum(scores.get(label, 0.0) for label in EXCITED)
    whole = excited + sum(scores.get(label, 0.0) for label in CALM)
    return round(excited / whole, 4) if whole else None


def top(scores: Mapping[str, float]) -> Body | None:
    """The label with the largest share, or None of no scores."""
    if not scores:
        return None
    label = max(scores, key=scores.__getitem__)
    return {"label": label, "score": scores[label]}
