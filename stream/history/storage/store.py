"""Insertion of finished sessions: each one once, with its rows and roll-ups, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from stream.history.storage import rollups
from stream.history.storage.connect import upserting
from stream.history.storage.identity import Identities
from stream.history.storage.record import AlertRecord, GapRecord, SessionRecord, UtteranceRecord
from stream.history.storage.tables import (
    erasures,
    gaps,
    session_alerts,
    session_attributes,
    session_labels,
    session_roles,
    session_tags,
    sessions,
    utterances,
)
from stream.labels import LABELS

MAX_PARAMETERS: Final = 500
"""Values in one list of a query."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """Numbers of sessions that were written, were there already, or have been erased."""

    written: int
    known: int
    erased: int


def insert(
    connection: sa.Connection, records: Sequence[SessionRecord], identities: Identities
) -> Inserted:
    """Insert sessions that are not there yet and were not erased meanwhile.

    `connection` is in a transaction of `connect.writing`.
    """
    records = list({record.uid: record for record in reversed(records)}.values())[::-1]
    rollups.lock(connection, shared=True)
    erased = _erased(connection, records, identities)
    wanted = [record for record in records if record.uid not in erased]
    numbers = _insert_sessions(connection, wanted)
    new = [record for record in wanted if record.uid in numbers]
    for table, rows in _children(new, numbers).items():
        if rows:
            connection.execute(sa.insert(table), rows)
    if new:
        rollups.add(connection, new)
    return Inserted(len(new), len(wanted) - len(new), len(erased))


def _erased(
    connection: sa.Connection, records: Sequence[SessionRecord], identities: Identities
) -> set[str]:
    """Return the uids of sessions that began before an erasure that they belong to."""
    digests = {record.uid: identities.digests(record) for record in records}
    before: dict[str, int] = {}
    for some in parts(sorted({digest for all_ in digests.values() for digest in all_})):
        e = erasures.c
        query = sa.select(e.digest, sa.func.max(e.before_ms)).where(e.digest.in_(some))
        found = connection.execute(query.group_by(e.digest))
        before |= {row[0]: row[1] for row in found}
    return {
        record.uid
        for record in records
        if any(record.started_ms < before.get(digest, 0) for digest in digests[record.uid])
    }


def parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Yield values in parts that a query can hold."""
    for begin in range(0, len(values), MAX_PARAMETERS):
        yield values[begin : begin + MAX_PARAMETERS]


def _insert_sessions(connection: sa.Connection, records: Sequence[SessionRecord]) -> dict[str, int]:
    """Return the numbers of the sessions that are new, by uid."""
    if not records:
        return {}
    statement = (
        upserting(connection, sessions)
        .on_conflict_do_nothing(index_elements=["uid"])
        .returning(sessions.c.uid, sessions.c.number)
    )
    found = connection.execute(statement, [_session(record) for record in records])
    return {row[0]: row[1] for row in found}


def _session(record: SessionRecord) -> dict[str, Any]:
    return {
        "uid": record.uid,
        "tenant": record.tenant,
        "stream_id": record.stream_id,
        "kind": record.kind,
        "node": record.node,
        "model": record.model,
        "model_license": record.model_license,
        "started_ms": record.started_ms,
        "duration_s": record.duration_s,
        "speech_s": record.speech_s,
        "reason": record.reason,
        "activation": record.activation,
        "dominant": record.dominant,
        "alerts": len(record.alerts),
        "severity": record.severity,
        "dead_air_s": record.dead_air_s,
        **{label: record.labels.get(label) for label in LABELS},
        "detail": record.detail,
    }


def _children(
    records: Iterable[SessionRecord], numbers: dict[str, int]
) -> dict[sa.Table, list[dict[str, Any]]]:
    """Return the rows of the tables below `sessions`."""
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        table: []
        for table in (
            session_tags,
            session_roles,
            session_labels,
            session_attributes,
            utterances,
            gaps,
            session_alerts,
        )
    }
    for record in records:
        of = {"session": numbers[record.uid]}
        # What is searched has copies of the session's tenant and start.
        found = {**of, "tenant": record.tenant, "session_started_ms": record.started_ms}
        rows[session_tags] += [{**found, "tag": tag} for tag in dict.fromkeys(record.tags)]
        rows[session_roles] += [{**found, "role": role} for role in dict.fromkeys(record.roles)]
        labels = record.labels.items()
        rows[session_labels] += [{**found, "label": name, "share": share} for name, share in labels]
        attributes = record.attributes.items()
        rows[session_attributes] += [{**of, "name": n, "value": value} for n, value in attributes]
        said = {(u.channel, u.position): u for u in record.utterances}
        rows[utterances] += [{**of, **_fields(utterance)} for utterance in said.values()]
        rows[gaps] += [{**of, "position": n, **_fields(gap)} for n, gap in enumerate(record.gaps)]
        alerts = {alert.id: alert for alert in record.alerts}
        rows[session_alerts] += [{**found, **_fields(alert)} for alert in alerts.values()]
    return rows


def _fields(row: UtteranceRecord | GapRecord | AlertRecord) -> dict[str, Any]:
    # `dataclasses.asdict` would copy the scores as well.
    return {name: getattr(row, name) for name in row.__slots__}
