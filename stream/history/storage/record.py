"""Record of a finished session, and its JSON form in the queue and the spool. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import orjson

from stream.protocol.wire.history import HistoryKind
from stream.terms import Severity

SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""In ascending order."""


@dataclass(frozen=True, slots=True)
class UtteranceRecord:
    """Final scores of one utterance. `baseline_weight` is 0 where no baseline moved them."""

    channel: int
    position: int
    """Number of the utterance on its channel, from 0."""
    start_ms: int
    end_ms: int
    scores: Mapping[str, float]
    activation: float | None
    hints: Sequence[str] = ()
    baseline_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Speech that was never scored: `missing_ms` of it between the two positions."""

    channel: int
    start_ms: int
    end_ms: int
    missing_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One alert from its beginning to its end; positions are milliseconds of the stream."""

    id: str
    rule: str
    severity: Severity
    role: str | None
    started_ms: int
    ended_ms: int | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Condition, peak, reason of the end, and the scores that the alert rests on."""
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None
    """Unix time in milliseconds."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One finished session. `stream_id` and the values of `attributes` are as privacy shows them.

    `labels` are mean shares, weighted by speech. `dead_air_s` is None where no conversation was
    measured. `reason` is that of the end of the stream, "interrupted" if the server was killed.
    """

    uid: str
    tenant: str
    stream_id: str
    kind: HistoryKind
    node: str
    model: str
    model_license: str
    started_ms: int
    duration_s: float
    speech_s: float
    reason: str
    activation: float | None = None
    dominant: str | None = None
    dead_air_s: float | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    tags: Sequence[str] = ()
    roles: Sequence[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    """`summary` per channel and `conversation`, as in `session.closed`."""
    utterances: Sequence[UtteranceRecord] = ()
    gaps: Sequence[GapRecord] = ()
    alerts: Sequence[AlertRecord] = ()

    @property
    def severity(self) -> Severity | None:
        """Worst severity of its alerts; None without an alert."""
        return max((a.severity for a in self.alerts), key=SEVERITIES.index, default=None)


def encode(record: SessionRecord) -> bytes:
    """Return a record as one line of JSON, without the line's end."""
    return orjson.dumps(record)


def decode(data: bytes) -> SessionRecord:
    """Return the record that `encode` wrote. Raises ValueError; unknown fields are ignored."""
    body = orjson.loads(data)
    try:
        fields = {name: body[name] for name in SessionRecord.__slots__ if name in body}
        fields["utterances"] = [_row(UtteranceRecord, row) for row in body.get("utterances", ())]
        fields["gaps"] = [_row(GapRecord, row) for row in body.get("gaps", ())]
        fields["alerts"] = [_row(AlertRecord, row) for row in body.get("alerts", ())]
        return SessionRecord(**fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not the record of a session: {error}") from None


def _row(kind: Any, row: Mapping[str, Any]) -> Any:
    return kind(**{name: row[name] for name in kind.__slots__ if name in row})
