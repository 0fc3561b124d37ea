"""Bodies of `/v1/history`: sessions that ended, their summaries. docs/history.md explains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from stream.fields import Limits, Role, RuleName, Share
from stream.labels import Label
from stream.protocol.wire.alerts import Acknowledgement
from stream.protocol.wire.values import (
    Activation,
    ChannelNumber,
    Count,
    Scores,
    Tag,
    TenantName,
    Text,
    Time,
)
from stream.terms import Severity

HistoryKind = Literal["live", "recording"]
"""Kind of a session: a live stream, or a recording that was analysed."""

HistoryId = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Id of a session in the history."""

Grouping = Literal["hour", "day", "tag", "tenant"]
"""Key of the rows of a summary."""

SessionSeconds = Annotated[float, Limits(ge=0)]
"""Seconds of the session's audio."""

DeadAir = Annotated[float, Limits(ge=0)] | None
"""Seconds of silence of 3 s or more; null where no conversation was measured."""


class HistorySession(TypedDict):
    """A session that ended, as the list has it."""

    id: HistoryId
    stream_id: str
    """As `privacy.hash_ids` says: the stream's id, or its keyed hash."""
    tenant: TenantName
    kind: HistoryKind
    started_at: Time
    duration_s: SessionSeconds
    speech_s: SessionSeconds
    tags: list[Tag]
    roles: list[Role]
    labels: Scores
    """Means over the session, weighted by speech; empty if nothing was scored."""
    dominant: Label | None
    activation: Activation
    alert_count: Count
    severity: Severity | None
    """The worst of its alerts."""
    dead_air_s: DeadAir
    model: str


class HistoryList(TypedDict):
    """A page of sessions, the newest first."""

    sessions: list[HistorySession]
    next: str | None
    """Cursor of the next page; null on the last one."""


class HistoryUtterance(TypedDict):
    """An utterance and its final scores."""

    channel: ChannelNumber
    role: Role
    start_s: SessionSeconds
    end_s: SessionSeconds
    scores: Scores
    activation: Activation
    hints: list[str]
    baseline_weight: Share
    """Share of the voice's distance from an average voice that was subtracted; 0 without."""


class HistoryGap(TypedDict):
    """Speech that was not scored, and the reason."""

    channel: ChannelNumber
    start_s: SessionSeconds
    end_s: SessionSeconds
    reason: str


class HistoryAlert(TypedDict):
    """An alert of a session."""

    id: Text
    rule: RuleName
    severity: Severity
    role: Role | None
    """Null for an alert about the whole stream."""
    start_s: SessionSeconds
    end_s: SessionSeconds | None
    """Null if it was open when the session ended."""
    evidence: Mapping[str, Any]
    acknowledged: Acknowledgement | None


class HistoryDetail(HistorySession):
    """A session with its utterances, gaps and alerts."""

    model_license: str
    reason: Text
    """Reason for the end, as in `session.closed`; interrupted: the server was killed, and this is
    the session up to the last copy before."""
    left_out: Count
    """Utterances, gaps and alerts beyond the limits of memory."""
    summary: list[Mapping[str, Any]]
    """Each analysed channel over the whole session, as in `session.closed`."""
    conversation: Mapping[str, Any] | None
    """As in `session.closed`; null where it was not measured."""
    utterances: list[HistoryUtterance]
    gaps: list[HistoryGap]
    alerts: list[HistoryAlert]


class HistoryRow(TypedDict):
    """The sessions of one hour, day, tag or tenant. Means are weighted by speech."""

    key: str
    calls: Count
    speech_s: SessionSeconds
    scores: Scores
    activation: Activation
    alerts: Count
    dead_air_s: DeadAir


class HistorySummary(TypedDict):
    """Sums and means of sessions."""

    by: Grouping
    rows: list[HistoryRow]


class Erased(TypedDict):
    """Number of sessions that were erased."""

    erased: Count
