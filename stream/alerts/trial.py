"""Trial of rules on one recording: their alerts, as in a live stream, and their values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from stream.alert_rules import IN_SECONDS, AlertRule
from stream.alerts.bodies import condition, evidence_body, has_horizon, value_name
from stream.alerts.curve import Curve
from stream.alerts.monitor import Alert, OwnedRule, StreamAlerts
from stream.alerts.values import is_judged
from stream.analysis.conversation import ConversationReport
from stream.protocol.wire.trials import MAX_TRIED_ALERTS, NoValue, RuleTrial, TriedAlert
from stream.types import SAMPLE_RATE, Score, Segment


@dataclass(frozen=True, slots=True)
class Heard:
    """Parts of a recording that rules can use.

    `analysed` are the channels with scores, `observed` those in the conversation, none without one.
    """

    roles: Sequence[str]
    analysed: Sequence[int]
    observed: Sequence[int]
    labels: Sequence[str]
    baseline: bool


@dataclass(slots=True)
class _Line:
    """Values and alerts of one rule on one channel."""

    curve: Curve = field(default_factory=Curve)
    alerts: list[TriedAlert] = field(default_factory=list)
    opened: Alert | None = None
    count: int = 0


class Trial:
    """State of a trial. It takes what a session gives to its alerts, in the same order.

    The tags and tenants of a rule are ignored: a recording has none.
    """

    def __init__(self, rules: Sequence[AlertRule], heard: Heard) -> None:
        # The number tells rules apart that are equal.
        self._rules = [OwnedRule(rule, str(n)) for n, rule in enumerate(rules)]
        self._heard = heard
        self._lines: dict[tuple[OwnedRule, int | None], _Line] = {}
        self._left_out = dict.fromkeys(heard.analysed, 0)
        for owned in self._rules:
            for channel in self._channels(owned.rule):
                self._lines[owned, channel] = _Line()
        self._alerts = StreamAlerts(heard.roles, self._rules, self._on_value)

    def _channels(self, rule: AlertRule) -> Iterator[int | None]:
        """Yield the channels that a rule concerns; None for the stream, and if there is none."""
        if rule.of_stream:
            yield None
            return
        heard = self._heard
        talking = rule.conversation is not None
        found = [
            channel
            for channel in (heard.observed if talking else heard.analysed)
            if not rule.roles or heard.roles[channel] in rule.roles
        ]
        yield from found or (None,)

    def scored(self, event: Score | Segment) -> None:
        """Process the scores of a window or of an utterance."""
        if isinstance(event, Score) and not is_judged(event):
            self._left_out[event.channel] += 1
        self._take(self._alerts.scored(event))

    def measured(self, report: ConversationReport) -> None:
        """Process the measures of the conversation."""
        self._take(self._alerts.measured(report))

    def advanced(self, at: int, silence: int | None) -> None:
        """Process the passing of time to position `at`, in samples."""
        self._take(self._alerts.advanced(at, silence))

    def finish(self, at: int) -> None:
        """End all open alerts, as the end of a stream does."""
        self._take(self._alerts.finish(at))

    def _on_value(self, owned: OwnedRule, channel: int | None, at: int, value: float) -> None:
        self._lines[owned, channel].curve.add(at / SAMPLE_RATE, value)

    def _take(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            line = self._lines[alert.owned, alert.channel]
            if alert.change.state == "new":
                line.opened = alert
            elif alert.change.state == "end" and line.opened is not None:
                line.count += 1
                if len(line.alerts) < MAX_TRIED_ALERTS:
                    line.alerts.append(_tried(line.opened, alert))
                line.opened = None

    def report(self) -> list[RuleTrial]:
        """Return every rule with its values and alerts, channel by channel, in the rules' order."""
        return [self._trial(*key, line) for key, line in self._lines.items()]

    def _trial(self, owned: OwnedRule, channel: int | None, line: _Line) -> RuleTrial:
        rule, heard = owned.rule, self._heard
        changes = rule.trend or rule.index == "activation_change"
        in_seconds = rule.conversation in IN_SECONDS
        judged = rule.conversation is None and channel is not None
        body: RuleTrial = {
            "rule": rule.name,
            "severity": rule.severity,
            "text": condition(rule),
            "of": value_name(rule),
            "unit": "s" if in_seconds else "difference" if changes else "share",
            "above": rule.above,
            "clear_below": round(rule.clears_below, 4),
            "for_s": rule.for_s,
            "values": line.curve.body(),
            "judged": line.curve.count,
            "left_out": self._left_out[channel] if judged and channel is not None else 0,
            "count": line.count,
            "alerts": line.alerts,
        }
        if rule.trend:
            body["trend"] = True
        elif has_horizon(rule):
            body["horizon"] = rule.horizon
        if channel is not None:
            body["channel"], body["role"] = channel, heard.roles[channel]
        if not line.curve.count:
            body["why"] = self._reason(rule, channel)
        return body

    def _reason(self, rule: AlertRule, channel: int | None) -> NoValue:
        """Return the reason that a rule compared nothing."""
        if rule.conversation is not None and not self._heard.observed:
            return "no_conversation"
        if channel is None and not rule.of_stream:
            return "no_channel"
        if rule.label is not None and rule.label not in self._heard.labels:
            return "no_label"
        if rule.index == "activation_change" and not self._heard.baseline:
            return "no_baseline"
        return "not_judged"


def _tried(opened: Alert, ended: Alert) -> TriedAlert:
    reason = ended.change.reason
    assert reason is not None
    body: TriedAlert = {
        "since_s": round(opened.change.since / SAMPLE_RATE, 3),
        "start_s": round(opened.change.at / SAMPLE_RATE, 3),
        "end_s": round(ended.change.at / SAMPLE_RATE, 3),
        "value": round(opened.change.value, 4),
        "peak": round(ended.change.peak, 4),
        "reason": reason,
    }
    if opened.evidence is not None:
        body["evidence"] = evidence_body(opened.evidence)
    return body
