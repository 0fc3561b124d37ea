"""Alerts of one stream: its events in, steps of alerts out. Pure and synchronous."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stream.alert_rules import AlertRule
from stream.alerts.state import STALE, Change, RuleState
from stream.alerts.values import Trend, conversation_values, is_judged, value_of
from stream.analysis.conversation import ConversationReport
from stream.protocol.wire.alerts import AlertEnd
from stream.terms import Hint
from stream.types import SAMPLE_RATE, Score, Segment


@dataclass(frozen=True, slots=True)
class OwnedRule:
    """A rule and its owner: "" is the configuration, else a subscriber's connection."""

    rule: AlertRule
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of a value: the scores over the horizon, and the utterance that they follow."""

    scores: Mapping[str, float]
    utterance: int
    speech_s: float
    hints: tuple[Hint, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """One step of one alert on `channel`, None for the stream.

    `id` is unique in the stream.
    """

    id: str
    owned: OwnedRule
    channel: int | None
    change: Change
    evidence: Evidence | None


_Key = tuple[OwnedRule, int | None]
"""Rule and channel, None for the stream."""

OnValue = Callable[[OwnedRule, int | None, int, float], None]
"""Receives each value that a rule compares: rule, channel, position in samples, value."""


@dataclass(slots=True)
class _Entry:
    """State of one rule on one channel."""

    prefix: str
    state: RuleState
    trend: Trend = field(default_factory=Trend)
    evidence: Evidence | None = None


class StreamAlerts:
    """State of all rules on all channels of one stream; `at` is a position in samples."""

    def __init__(
        self,
        roles: Sequence[str],
        rules: Sequence[OwnedRule] = (),
        on_value: OnValue | None = None,
    ) -> None:
        self._roles = roles
        self._on_value = on_value
        self._rules: tuple[OwnedRule, ...] = tuple(rules)
        self._entries: dict[_Key, _Entry] = {}
        self._made = 0

    def replace_rules(self, rules: Sequence[OwnedRule], at: int) -> list[Alert]:
        """Use other rules from now on; end the alerts of those that are gone."""
        self._rules = tuple(rules)
        gone = [key for key in self._entries if key[0] not in self._rules]
        alerts = self._end(gone, at, "rule_removed")
        for key in gone:
            del self._entries[key]
        return alerts

    def scored(self, event: Score | Segment) -> list[Alert]:
        """Process the scores of a window or of an utterance."""
        return list(self._scored(event)) if self._rules and is_judged(event) else []

    def _scored(self, event: Score | Segment) -> Iterator[Alert]:
        for owned in self._rules:
            rule = owned.rule
            if rule.conversation is not None or not self._concerns(rule, event.channel):
                continue
            if rule.trend and isinstance(event, Score):
                continue
            value = value_of(rule, event)
            if value is None:
                continue
            key = (owned, event.channel)
            entry = self._entry(key)
            if rule.trend:
                value = entry.trend.add(event.end / SAMPLE_RATE, value, event.quality.speech_s)
                if value is None:
                    continue
            over = event.scores if rule.horizon == "window" else event.rolling.get(rule.horizon, {})
            entry.evidence = Evidence(over, event.utterance, event.quality.speech_s, event.hints)
            yield from self._observe(key, entry, event.end, value)

    def measured(self, report: ConversationReport) -> list[Alert]:
        """Process the measures of the conversation."""
        alerts: list[Alert] = []
        for owned in self._rules:
            rule = owned.rule
            if rule.conversation is None or rule.conversation == "dead_air":
                continue
            for channel, value in conversation_values(rule, report).items():
                if channel is None or self._concerns(rule, channel):
                    key = owned, channel
                    alerts += self._observe(key, self._entry(key), report.end, value)
        return alerts

    def advanced(self, at: int, silence: int | None) -> list[Alert]:
        """Process the passing of time; `silence` is the mutual silence now.

        It is None if no conversation is measured (any more): then its alerts end.
        """
        alerts: list[Alert] = []
        if silence is None:
            of_talk = [key for key in self._entries if key[0].rule.conversation is not None]
            alerts += self._end(of_talk, at, "no_speech")
        else:
            for owned in self._rules:
                if owned.rule.conversation == "dead_air":
                    key: _Key = (owned, None)
                    alerts += self._observe(key, self._entry(key), at, silence / SAMPLE_RATE)
        for key, entry in self._entries.items():
            change = entry.state.tick(at)
            if change is not None:
                alerts.append(self._alert(key, entry, change))
        return alerts

    def finish(self, at: int, reason: AlertEnd = "stream_ended") -> list[Alert]:
        """End all open alerts."""
        return self._end(self._entries, at, reason)

    def _concerns(self, rule: AlertRule, channel: int) -> bool:
        return not rule.roles or self._roles[channel] in rule.roles

    def _entry(self, key: _Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            rule = key[0].rule
            self._made += 1
            state = RuleState(
                rule.above,
                rule.clears_below,
                round(rule.for_s * SAMPLE_RATE),
                round(rule.cooldown_s * SAMPLE_RATE),
                STALE if rule.conversation is None and not rule.trend else 0,
            )
            entry = self._entries[key] = _Entry(str(self._made), state)
        return entry

    def _observe(self, key: _Key, entry: _Entry, at: int, value: float) -> Iterator[Alert]:
        if self._on_value is not None:
            self._on_value(*key, at, value)
        change = entry.state.observe(at, value)
        if change is not None:
            yield self._alert(key, entry, change)

    def _end(self, keys: Iterable[_Key], at: int, reason: AlertEnd) -> list[Alert]:
        """End the open alerts of some entries."""
        alerts = []
        for key in keys:
            entry = self._entries[key]
            change = entry.state.end(at, reason)
            if change is not None:
                if reason == "objected":
                    entry.evidence = None
                alerts.append(self._alert(key, entry, change))
        return alerts

    def _alert(self, key: _Key, entry: _Entry, change: Change) -> Alert:
        owned, channel = key
        return Alert(f"{entry.prefix}.{change.number}", owned, channel, change, entry.evidence)
