"""Trials of alert rules on a recording: the values that they compared, and their alerts."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Horizon, Limits, Role, RuleName, Stated
from stream.protocol.wire.alerts import AlertEnd, AlertEvidence
from stream.protocol.wire.values import ChannelNumber, Count, Seconds, Text
from stream.terms import Severity

MAX_POINTS = 500
"""Points of one curve. A longer one has several values in each point."""

MAX_TRIED_ALERTS = 100
"""Alerts of one curve that a result lists."""

NoValue = Literal["no_conversation", "no_channel", "no_label", "no_baseline", "not_judged"]
"""Reason that a rule had no value.

`no_conversation`: only one channel is observed, or both carry the same voice; `no_channel`: none
that is analysed has one of the rule's roles; `no_label`: the model does not have the label;
`no_baseline`: the analysis ran without a baseline; `not_judged`: no score was judged, or a trend
had too few utterances.
"""


class TriedAlert(TypedDict):
    """An alert that a rule would have raised."""

    since_s: Seconds
    """Position at which the condition began to hold."""
    start_s: Seconds
    """Position at which the alert began."""
    end_s: Seconds
    value: float
    """Value at the beginning of the alert."""
    peak: float
    reason: AlertEnd
    evidence: NotRequired[AlertEvidence]


class RuleValues(TypedDict):
    """Values that a rule compared: the lowest and highest of each point, by position."""

    at_s: Annotated[list[Seconds], Stated(max_length=MAX_POINTS)]
    low: Annotated[list[float], Stated(max_length=MAX_POINTS)]
    high: Annotated[list[float], Stated(max_length=MAX_POINTS)]


class RuleTrial(TypedDict):
    """A rule on one channel, or on the stream if its value belongs to no channel."""

    rule: RuleName
    severity: Severity
    text: Text
    """The condition, for people."""
    of: Text
    """Label, index or value of the conversation that the rule compares."""
    unit: Literal["share", "difference", "s"]
    trend: NotRequired[bool]
    horizon: NotRequired[Horizon]
    above: float
    clear_below: float
    for_s: Annotated[float, Limits(ge=0)]
    channel: NotRequired[ChannelNumber]
    role: NotRequired[Role]
    values: RuleValues
    judged: Count
    """Values that were compared."""
    left_out: Count
    """Scores of windows that say too little about a voice to be compared."""
    count: Count
    """Alerts that the rule would have raised."""
    alerts: Annotated[list[TriedAlert], Stated(max_length=MAX_TRIED_ALERTS)]
    """The first of them."""
    why: NotRequired[NoValue]
    """Reason that nothing was compared."""
