"""Queries of the history: a page of the list, one session. Blocking; each in a transaction."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from stream.history.queries.conditions import among, in_order, rare, tenants_of
from stream.history.queries.filters import Filter, Position
from stream.history.storage.tables import (
    gaps,
    session_alerts,
    session_labels,
    session_roles,
    session_tags,
    sessions,
    utterances,
)
from stream.labels import LABELS
from stream.protocol.wire.alerts import Acknowledgement
from stream.protocol.wire.history import (
    HistoryAlert,
    HistoryDetail,
    HistoryList,
    HistorySession,
    HistoryUtterance,
)
from stream.types import timestamp

Key = tuple[int, str, int]
"""Start, id and number of a session."""


def page(
    connection: sa.Connection, wanted: Filter, limit: int, after: Position | None = None
) -> HistoryList:
    """Return up to `limit` sessions after a position, the newest first."""
    keys = list(find(connection, wanted, limit + 1, after))
    more = len(keys) > limit
    return {
        "sessions": bodies(connection, [number for _, _, number in keys[:limit]]),
        "next": Position(*keys[limit - 1][:2]).cursor if more else None,
    }


def find(
    connection: sa.Connection, wanted: Filter, limit: int, after: Position | None = None
) -> Iterator[Key]:
    """Yield the keys of up to `limit` sessions after a position, the newest first."""
    s = sessions.c
    if after is not None:
        end = after.started_ms + 1
        ends = end if wanted.end_ms is None else min(end, wanted.end_ms)
        wanted = replace(wanted, end_ms=ends)
    found: list[list[Key]] = []
    for tenant in tenants_of(connection, wanted):
        numbers = rare(connection, wanted, tenant)
        query = in_order(wanted, tenant) if numbers is None else among(wanted, numbers)
        if after is not None:
            query = query.where(sa.or_(s.started_ms < after.started_ms, s.uid < after.uid))
        found.append([tuple(row) for row in connection.execute(query.limit(limit))])
    yield from list(heapq.merge(*found, reverse=True))[:limit]


def bodies(connection: sa.Connection, numbers: Sequence[int]) -> list[HistorySession]:
    """Return the sessions with these numbers, in this order."""
    rows = _by_session(connection, sessions, numbers, sessions.c.number)
    tags = _by_session(connection, session_tags, numbers)
    roles = _by_session(connection, session_roles, numbers)
    labels = _by_session(connection, session_labels, numbers)
    return [
        _session(row, tags[number], roles[number], labels[number])
        for number in numbers
        for row in rows[number]
    ]


def one(
    connection: sa.Connection, uid: str, tenants: frozenset[str] | None
) -> HistoryDetail | None:
    """Return a session with everything about it; None if no session of these tenants has the id."""
    row = connection.execute(sa.select(sessions).where(sessions.c.uid == uid)).one_or_none()
    if row is None or (tenants is not None and row.tenant not in tenants):
        return None
    [body] = bodies(connection, [row.number])
    summary = row.detail.get("summary") or []
    spoken = utterances.c
    said = connection.execute(
        sa.select(utterances)
        .where(spoken.session == row.number)
        .order_by(spoken.start_ms, spoken.channel, spoken.position)
    )
    of_channel = roles_of(row.detail)
    holes = _by_session(connection, gaps, [row.number])[row.number]
    raised = _by_session(connection, session_alerts, [row.number])[row.number]
    return {
        **body,
        "model_license": row.model_license,
        "reason": row.reason,
        "left_out": row.detail.get("left_out", 0),
        "summary": summary,
        "conversation": row.detail.get("conversation"),
        "utterances": [_utterance(entry, of_channel) for entry in said],
        "gaps": [
            {
                "channel": gap.channel,
                "start_s": gap.start_ms / 1000,
                "end_s": gap.end_ms / 1000,
                "reason": gap.reason,
            }
            for gap in sorted(holes, key=lambda gap: gap.position)
        ],
        "alerts": [_alert(a) for a in sorted(raised, key=lambda a: (a.started_ms, a.id))],
    }


def _by_session(
    connection: sa.Connection,
    table: sa.Table,
    numbers: Sequence[int],
    number: sa.ColumnElement[int] | None = None,
) -> defaultdict[int, list[sa.Row[Any]]]:
    """Return the rows of a table by the number of their session."""
    column = table.c.session if number is None else number
    found: defaultdict[int, list[sa.Row[Any]]] = defaultdict(list)
    if numbers:
        for row in connection.execute(sa.select(table).where(column.in_(numbers))):
            found[row._mapping[column]].append(row)
    return found


def _session(
    row: sa.Row[Any],
    tags: Sequence[sa.Row[Any]],
    roles: Sequence[sa.Row[Any]],
    labels: Sequence[sa.Row[Any]],
) -> HistorySession:
    shares = {label.label: label.share for label in labels}
    return {
        "id": row.uid,
        "stream_id": row.stream_id,
        "tenant": row.tenant,
        "kind": row.kind,
        "started_at": timestamp(row.started_ms / 1000),
        "duration_s": row.duration_s,
        "speech_s": row.speech_s,
        "tags": sorted(tag.tag for tag in tags),
        "roles": sorted(role.role for role in roles),
        "labels": {label: shares[label] for label in LABELS if label in shares},
        "dominant": row.dominant,
        "activation": row.activation,
        "alert_count": row.alerts,
        "severity": row.severity,
        "dead_air_s": row.dead_air_s,
        "model": row.model,
    }


def _utterance(row: sa.Row[Any], roles: dict[int, str]) -> HistoryUtterance:
    return {
        "channel": row.channel,
        "role": roles.get(row.channel, "speaker"),
        "start_s": row.start_ms / 1000,
        "end_s": row.end_ms / 1000,
        "scores": row.scores,
        "activation": row.activation,
        "hints": row.hints,
        "baseline_weight": row.baseline_weight,
    }


def _alert(row: sa.Row[Any]) -> HistoryAlert:
    taken: Acknowledgement | None = None
    if row.acknowledged_ms is not None:
        at = timestamp(row.acknowledged_ms / 1000)
        taken = {"by": row.acknowledged_by or "", "at": at}
    return {
        "id": row.id,
        "rule": row.rule,
        "severity": row.severity,
        "role": row.role,
        "start_s": row.started_ms / 1000,
        "end_s": None if row.ended_ms is None else row.ended_ms / 1000,
        "evidence": row.evidence,
        "acknowledged": taken,
    }


def roles_of(detail: Mapping[str, Any]) -> dict[int, str]:
    """Return the role of each channel of a session."""
    return dict(enumerate(detail.get("channels") or []))
