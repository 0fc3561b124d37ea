"""Values that rules compare: from scores, from their trend, from the conversation. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from stream.alert_rules import AlertRule
from stream.analysis.conversation import ConversationReport, Side
from stream.labels import activation, negative, top
from stream.types import SAMPLE_RATE, Score, Segment

UNJUDGED = frozenset(("short_speech", "music", "tone"))
"""Hints of scores that say too little about a voice for an alert."""

LEAST_HEARD = 30 * SAMPLE_RATE
"""Samples of the last minute that must be heard before its shares are judged."""

LEAST_UTTERANCES, LEAST_SPAN_S = 5, 60.0
"""Utterances, and seconds from the first to the last, that a trend needs."""


def is_judged(event: Score | Segment) -> bool:
    """Return whether an event says enough about a voice: no music, no short or unknown speech."""
    return _is_known(event.scores) and UNJUDGED.isdisjoint(event.hints)


def _is_known(scores: Mapping[str, float]) -> bool:
    best = top(scores)
    return best is not None and best["label"] not in ("unknown", "other")


def value_of(rule: AlertRule, event: Score | Segment) -> float | None:
    """Return the value of a label or an index over the rule's horizon; None if it has none."""
    if rule.index == "activation_change":
        return _change(event)
    if rule.horizon == "window" or rule.trend:
        scores = event.scores
    else:
        scores = event.rolling.get(rule.horizon, {})
    if not _is_known(scores):
        return None
    if rule.label is not None:
        return scores.get(rule.label)
    return negative(scores) if rule.index == "negative" else activation(scores)


def _change(event: Score | Segment) -> float | None:
    """Return how far the activation lies above that of the voice's earlier utterances."""
    use = event.baseline
    if use is None or use.activation is None:
        return None
    value = activation(use.scores)
    return None if value is None else value - use.activation


class Trend:
    """Least-squares line through the values of a channel's utterances, weighted by speech.

    Keeps sums only, so a call of any length takes the same memory.
    """

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0
        self._sums = [0.0] * 5
        """Weight, and weighted x, y, xx, xy."""

    def add(self, at_s: float, value: float, speech_s: float) -> float | None:
        """Add an utterance; return the rise since the first one, None while there are few."""
        if not self._count:
            self._first = at_s
        self._count += 1
        self._last = x = at_s - self._first
        terms = (1.0, x, value, x * x, x * value)
        self._sums = [s + speech_s * term for s, term in zip(self._sums, terms, strict=True)]
        weight, sx, sy, sxx, sxy = self._sums
        spread = weight * sxx - sx * sx
        if self._count < LEAST_UTTERANCES or self._last < LEAST_SPAN_S or spread <= 0:
            return None
        return (weight * sxy - sx * sy) / spread * self._last


def conversation_values(rule: AlertRule, report: ConversationReport) -> Mapping[int | None, float]:
    """Return a rule's value in the last minute by channel; None is the stream."""
    minute = report.minute
    if rule.conversation == "overlap":
        if minute.heard < LEAST_HEARD:
            return {}
        return {None: minute.overlap / minute.heard}
    found = {side.channel: _of_side(rule, side, minute.heard) for side in minute.sides}
    return {channel: value for channel, value in found.items() if value is not None}


def _of_side(rule: AlertRule, side: Side, heard: int) -> float | None:
    match rule.conversation:
        case "talks_over":
            return side.overlap / heard if heard >= LEAST_HEARD else None
        case "talk_share":
            return side.share if heard >= LEAST_HEARD else None
        case "response":
            return None if side.response is None else side.response / SAMPLE_RATE
        case "longest_turn":
            return side.longest_turn / SAMPLE_RATE
        case _:
            return None
