"""Roll-ups: sums per tenant, tag and hour, kept in the transactions that change sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from stream.history.record import SessionRecord
from stream.history.tables import (
    rollup_labels,
    rollups,
    session_labels,
    session_tags,
    sessions,
)

HOUR_MS: Final = 3_600_000

LOCK: Final = 0x656D6F75
"""Number of PostgreSQL's advisory lock; see `lock`."""

Hour = tuple[str, int]
"""Tenant, and the Unix time in milliseconds at which an hour begins."""

SUMS: Final = tuple(column.name for column in rollups.columns if not column.primary_key)


def hour_of(started_ms: int) -> int:
    """Return the beginning of the hour of a time; both are Unix times in milliseconds."""
    return started_ms // HOUR_MS * HOUR_MS


def add(connection: sa.Connection, records: Sequence[SessionRecord]) -> None:
    """Add sessions that were just inserted; the caller has the shared lock."""
    sums: defaultdict[tuple[str, str, int], dict[str, float]] = defaultdict(
        lambda: dict.fromkeys(SUMS, 0)
    )
    shares: defaultdict[tuple[str, str, int, str], float] = defaultdict(float)
    for record in records:
        values = _values(record)
        for tag in ("", *dict.fromkeys(record.tags)):
            key = (record.tenant, tag, hour_of(record.started_ms))
            row = sums[key]
            for name in SUMS:
                row[name] += values[name]
            for label, share in record.labels.items():
                shares[(*key, label)] += share * record.speech_s
    # In order, so that two servers never wait for each other's rows.
    _add_rows(connection, rollups, [(*key, *row.values()) for key, row in sorted(sums.items())])
    _add_rows(connection, rollup_labels, [(*key, s) for key, s in sorted(shares.items())])


def _values(record: SessionRecord) -> dict[str, float]:
    speech_s = record.speech_s
    rated = record.activation is not None
    return {
        "calls": 1,
        "speech_s": speech_s,
        "scored_s": speech_s if record.labels else 0,
        "activation_s": speech_s if rated else 0,
        "activation_sum": (record.activation or 0) * speech_s,
        "alerts": len(record.alerts),
        "dead_air_calls": int(record.dead_air_s is not None),
        "dead_air_s": record.dead_air_s or 0,
    }


def _add_rows(connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    names = [column.name for column in table.columns]
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    added = {
        column.name: column + insert.excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    statement = insert.on_conflict_do_update(index_elements=[*table.primary_key], set_=added)
    connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])


def recompute(connection: sa.Connection, hours: Iterable[Hour]) -> None:
    """Sum up hours again, in which sessions were deleted; the caller has the exclusive lock."""
    for tenant, hour_ms in sorted(set(hours)):
        for table in (rollups, rollup_labels):
            where = (table.c.tenant == tenant, table.c.hour_ms == hour_ms)
            connection.execute(sa.delete(table).where(*where))
        _sum_up(connection, tenant, hour_ms)


def _sum_up(connection: sa.Connection, tenant: str, hour_ms: int) -> None:
    s = sessions.c
    begun = sa.and_(s.tenant == tenant, s.started_ms.between(hour_ms, hour_ms + HOUR_MS - 1))
    scored = sa.exists().where(session_labels.c.session == s.number)
    sums: list[sa.ColumnElement[Any]] = [
        sa.func.count(),
        sa.func.sum(s.speech_s),
        sa.func.sum(sa.case((scored, s.speech_s), else_=0.0)),
        sa.func.sum(sa.case((s.activation.is_not(None), s.speech_s), else_=0.0)),
        sa.func.sum(sa.func.coalesce(s.activation, 0.0) * s.speech_s),
        sa.func.sum(s.alerts),
        sa.func.count(s.dead_air_s),
        sa.func.coalesce(sa.func.sum(s.dead_air_s), 0.0),
    ]
    share = sa.func.sum(session_labels.c.share * s.speech_s)
    labelled = sessions.join(session_labels)
    everything, tag = sa.literal(""), session_tags.c.tag
    t, h = sa.literal(tenant), sa.literal(hour_ms, sa.BigInteger)

    def insert(table: sa.Table, query: sa.Select[Any]) -> None:
        names = [column.name for column in table.columns]
        connection.execute(sa.insert(table).from_select(names, query.where(begun)))

    insert(
        rollups,
        sa.select(t, everything, h, *sums).select_from(sessions).having(sa.func.count() > 0),
    )
    insert(
        rollups,
        sa.select(t, tag, h, *sums).select_from(sessions.join(session_tags)).group_by(tag),
    )
    label = session_labels.c.label
    insert(
        rollup_labels,
        sa.select(t, everything, h, label, share).select_from(labelled).group_by(label),
    )
    insert(
        rollup_labels,
        sa.select(t, tag, h, label, share)
        .select_from(labelled.join(session_tags, session_tags.c.session == s.number))
        .group_by(tag, label),
    )


def lock(connection: sa.Connection, *, shared: bool) -> None:
    """Lock the history until the transaction ends: shared to insert, exclusive to erase.

    An insertion either is complete before an erasure looks for sessions, or sees the erasure.
    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
        connection.execute(sa.select(lock(LOCK)))
