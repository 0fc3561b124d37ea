"""Roll-ups: sums per tenant, tag and hour, kept in the transactions that change sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from stream.history.storage.connect import upserting
from stream.history.storage.record import SessionRecord
from stream.history.storage.tables import rollups, session_tags, sessions
from stream.labels import LABELS

HOUR_MS: Final = 3_600_000

LOCK: Final = 0x656D6F75
"""Number of PostgreSQL's advisory lock; see `lock`."""

Hour = tuple[str, int]
"""Tenant, and the Unix time in milliseconds at which an hour begins."""

Key = tuple[str, str, int]
"""Tenant, tag, and hour: the key of a row."""

Sums = dict[str, Any]
"""Sums by the name of their column."""

SUMS: Final = tuple(column.name for column in rollups.columns if not column.primary_key)


def hour_of(started_ms: int) -> int:
    """Return the beginning of the hour of a time; both are Unix times in milliseconds."""
    return started_ms // HOUR_MS * HOUR_MS


def add(connection: sa.Connection, records: Sequence[SessionRecord]) -> None:
    """Add sessions that were just inserted; the caller has the shared lock."""
    sums: dict[Key, Sums] = {}
    for record in records:
        values = _values(record)
        for tag in ("", *dict.fromkeys(record.tags)):
            row = sums.setdefault((record.tenant, tag, hour_of(record.started_ms)), {})
            for name, value in values.items():
                row[name] = row.get(name, 0) + value
    # In order, so that two servers never wait for each other's rows.
    _add_rows(connection, [_row(key, row) for key, row in sorted(sums.items())])


def _row(key: Key, sums: Sums) -> dict[str, Any]:
    """Return the columns of a row; labels that no session had are null."""
    tenant, tag, hour_ms = key
    names = {name: sums.get(name) for name in SUMS}
    return {"tenant": tenant, "tag": tag, "hour_ms": hour_ms, **names}


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
        **{label: share * speech_s for label, share in record.labels.items() if label in LABELS},
    }


def _add_rows(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    insert = upserting(connection, rollups)
    added = {}
    for name in SUMS:
        old, new = rollups.c[name], insert.excluded[name]
        added[name] = sa.func.coalesce(old + new, old, new) if name in LABELS else old + new
    statement = insert.on_conflict_do_update(index_elements=[*rollups.primary_key], set_=added)
    connection.execute(statement, rows)


def recompute(connection: sa.Connection, hours: Iterable[Hour]) -> None:
    """Sum up hours again, in which sessions were deleted; the caller has the exclusive lock."""
    for tenant, hour_ms in sorted(set(hours)):
        where = (rollups.c.tenant == tenant, rollups.c.hour_ms == hour_ms)
        connection.execute(sa.delete(rollups).where(*where))
        _sum_up(connection, tenant, hour_ms)


def sums_of_sessions() -> list[sa.Label[Any]]:
    """Return the SQL of each sum over rows of `sessions`, with the name of its column."""
    s = sessions.c
    scored = sa.or_(*(s[label].is_not(None) for label in LABELS))
    rated = s.activation.is_not(None)
    sums: dict[str, sa.ColumnElement[Any]] = {
        "calls": sa.func.count(),
        "speech_s": sa.func.sum(s.speech_s),
        "scored_s": sa.func.sum(sa.case((scored, s.speech_s), else_=0.0)),
        "activation_s": sa.func.sum(sa.case((rated, s.speech_s), else_=0.0)),
        "activation_sum": sa.func.sum(sa.case((rated, s.activation * s.speech_s), else_=0.0)),
        "alerts": sa.func.sum(s.alerts),
        "dead_air_calls": sa.func.count(s.dead_air_s),
        "dead_air_s": sa.func.coalesce(sa.func.sum(s.dead_air_s), 0.0),
        **{label: sa.func.sum(s[label] * s.speech_s) for label in LABELS},
    }
    return [sums[name].label(name) for name in SUMS]


def _sum_up(connection: sa.Connection, tenant: str, hour_ms: int) -> None:
    s = sessions.c
    begun = sa.and_(s.tenant == tenant, s.started_ms.between(hour_ms, hour_ms + HOUR_MS - 1))
    columns = sums_of_sessions()
    found: dict[Key, Sums] = {}
    for tag in (sa.literal(""), session_tags.c.tag):
        own = isinstance(tag, sa.Column)
        source = (
            sessions.join(session_tags, session_tags.c.session == s.number) if own else sessions
        )
        each = sa.select(tag.label("of"), *columns).select_from(source).where(begun)
        for row in connection.execute(
            each.group_by(tag) if own else each.having(sa.func.count() > 0)
        ):
            values = row._asdict()
            found[tenant, values.pop("of"), hour_ms] = values
    if found:
        rows = [_row(key, values) for key, values in found.items()]
        connection.execute(sa.insert(rollups), rows)


def lock(connection: sa.Connection, *, shared: bool) -> None:
    """Lock the history until the transaction ends: shared to insert, exclusive to erase.

    An insertion either is complete before an erasure looks for sessions, or sees the erasure.
    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = sa.func.pg_advisory_xact_lock_shared if shared else sa.func.pg_advisory_xact_lock
        connection.execute(sa.select(lock(LOCK)))
