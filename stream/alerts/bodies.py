"""Bodies of `alert` events. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert_rules import IN_SECONDS, AlertRule
from stream.alerts.monitor import Alert, Evidence
from stream.protocol.wire import alerts as wire
from stream.types import to_ms


def alert_body(alert: Alert, roles: Sequence[str], prefix: str) -> wire.AlertBody:
    """Return the body of a step; `prefix` makes its id unique among all streams."""
    rule, change = alert.owned.rule, alert.change
    body: wire.AlertBody = {
        "type": "alert",
        "id": f"alr_{prefix}-{alert.id}",
        "state": change.state,
        "rule": rule.name,
        "severity": rule.severity,
        "text": condition(rule),
        "of": value_name(rule),
        "value": round(change.value, 4),
        "peak": round(change.peak, 4),
        "above": rule.above,
        "clear_below": round(rule.clears_below, 4),
        "since_ms": to_ms(change.since),
        "audio_ms": to_ms(change.at),
    }
    if rule.trend:
        body["trend"] = True
    elif has_horizon(rule):
        body["horizon"] = rule.horizon
    if change.reason is not None:
        body["reason"] = change.reason
    if alert.channel is not None:
        body["channel"] = alert.channel
        body["role"] = roles[alert.channel]
    if alert.evidence is not None:
        body["evidence"] = evidence_body(alert.evidence)
    return body


def has_horizon(rule: AlertRule) -> bool:
    """Return whether a rule's value is taken over its horizon."""
    return not rule.trend and rule.conversation is None and rule.index != "activation_change"


def evidence_body(evidence: Evidence) -> wire.AlertEvidence:
    """Return the evidence of a step."""
    return {
        "scores": evidence.scores,
        "utterance": evidence.utterance,
        "speech_s": evidence.speech_s,
        "hints": list(evidence.hints),
    }


def value_name(rule: AlertRule) -> str:
    """Return the label, the index or the value of the conversation that a rule compares."""
    return rule.label or rule.index or rule.conversation or ""


def condition(rule: AlertRule) -> str:
    """Return the condition as an indicator, for people."""
    unit = " s" if rule.conversation in IN_SECONDS else ""
    held = f" for {rule.for_s:g} s" if rule.for_s else ""
    name = value_name(rule).replace("_", " ")
    over = ""
    if rule.trend:
        name = f"rise of {name} over the call"
    elif has_horizon(rule):
        over = {"window": "", "call": " over the call"}.get(rule.horizon, f" over {rule.horizon}")
    return f"indicator: {name}{over} at or above {rule.above:g}{unit}{held}"
