"""Alerts: steps of conditions on scores or on the conversation. docs/alerts.md explains them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Horizon, Limits, Role, RuleName, Stated
from stream.protocol.wire.common import Reply, Stamped
from stream.protocol.wire.values import (
    ChannelNumber,
    Hints,
    Milliseconds,
    Scores,
    Text,
    Time,
    Utterance,
)
from stream.terms import MAX_RULES, Severity

AlertId = Annotated[str, Limits(pattern=r"^alr_[0-9a-f]{16}-[0-9]+\.[0-9]+$")]
"""Id of an alert, the same in all its steps."""

# Described at its field: to the schemas it is the same type as `ChangeKind` of MQTT.
AlertState = Literal["new", "update", "end"]

AlertEnd = Literal["cleared", "no_speech", "stream_ended", "objected", "rule_removed"]
"""Reason for the end of an alert.

`cleared`: the value fell below `clear_below`; `no_speech`: nothing could be judged for 30 s.
"""


class AlertEvidence(TypedDict):
    """Scores over the rule's horizon, and the utterance with the newest of them."""

    scores: Scores
    utterance: Utterance
    speech_s: Annotated[float, Limits(ge=0)]
    """Seconds of speech of that utterance so far."""
    hints: Hints


class Acknowledgement(TypedDict):
    """First acknowledgement of an alert."""

    by: str
    """Name of the key; empty on a server without keys."""
    at: Time


class AlertStep(TypedDict):
    """One step of an alert: its rule, its values, its time."""

    id: AlertId
    state: AlertState
    """`new`: the condition has held long enough; `update`: it still holds; `end`: it is over."""
    rule: RuleName
    severity: Severity
    text: Text
    """The condition, for people."""
    of: Text
    """Label, index or value of the conversation that the rule compares."""
    trend: NotRequired[bool]
    """True if the value is the rise over the call."""
    horizon: NotRequired[Horizon]
    value: float
    peak: float
    """Highest value since the condition began to hold."""
    above: float
    clear_below: float
    since_ms: Milliseconds
    """Position at which the condition began to hold."""
    audio_ms: Milliseconds
    acknowledged: NotRequired[Acknowledgement]
    """Given once a subscriber has acknowledged the alert."""
    reason: NotRequired[AlertEnd]


class AlertBody(AlertStep):
    """One step of an alert: an indicator, not a verdict."""

    type: Literal["alert"]
    channel: NotRequired[ChannelNumber]
    role: NotRequired[Role]
    evidence: NotRequired[AlertEvidence]


class Alert(Stamped, AlertBody): ...


class AlertRulesBody(TypedDict):
    """The rules of this connection, after `alert.rules`."""

    type: Literal["alert.rules"]
    names: Annotated[list[RuleName], Stated(max_length=MAX_RULES)]


class AlertRules(Reply, AlertRulesBody): ...


class AlertAcknowledgedBody(TypedDict):
    """Answer to `alert.acknowledge`."""

    type: Literal["alert.acknowledged"]
    id: AlertId


class AlertAcknowledged(Reply, AlertAcknowledgedBody): ...
