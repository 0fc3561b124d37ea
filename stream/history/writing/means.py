"""Means over the speech of a session: scores and activation. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from stream.labels import top


class SpeechMeans:
    """Mean scores and mean activation, weighted by speech.

    Speech without scores, or without an activation, has no weight in that mean.
    """

    def __init__(self) -> None:
        self._scores = _Mean()
        self._activation = _Mean()

    def add(self, scores: Mapping[str, float], activation: float | None, speech: float) -> None:
        """Add `speech` with these means; its unit is the same in all calls."""
        self._scores.add(scores, speech)
        if activation is not None:
            self._activation.add({"activation": activation}, speech)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a record that are means, rounded to four digits."""
        labels = self._scores.values()
        highest = top(labels)
        return {
            "labels": labels,
            "dominant": None if highest is None else highest["label"],
            "activation": self._activation.values().get("activation"),
        }


class _Mean:
    """Weighted mean of values by name."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._weight = 0.0

    def add(self, values: Mapping[str, float], weight: float) -> None:
        if values and weight:
            self._weight += weight
            for name, value in values.items():
                self._sums[name] += value * weight

    def values(self) -> dict[str, float]:
        return {name: round(total / self._weight, 4) for name, total in self._sums.items()}
