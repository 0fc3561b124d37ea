"""Erasure on request, and of sessions whose time is over: rows, roll-ups, later arrivals."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from stream.history.storage import rollups
from stream.history.storage.connect import BUSY_S, writing
from stream.history.storage.identity import Identities
from stream.history.storage.tables import erasures, session_attributes, sessions
from stream.history.storage.tables import rollups as rollup_rows

BATCH: Final = 100
"""Sessions that are deleted in one transaction, so that the writer waits for moments only."""

REMEMBER_DAYS: Final = 400
"""Days for which an erasure also meets sessions that come from a spool."""

DAY_MS: Final = 86_400_000

TRUNCATE_S: Final = 10.0
"""Seconds in which SQLite's log must become free of readers to be emptied."""

SelectionKind = Literal["session", "stream", "attribute", "tenant"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Sessions to erase, of some tenants only.

    `value` is a session's id, a stream's id (in clear, or as the history shows it), or an attribute
    as `name:value`; it is ignored for the kind "tenant".
    """

    kind: SelectionKind
    tenants: Collection[str]
    value: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for an attribute without a name."""
        if self.kind == "attribute" and not self.value.partition(":")[0]:
            raise ValueError("an attribute is selected as name:value")


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure in the table `erasures`; it meets sessions that began before `before_ms`."""

    digest: str
    before_ms: int


@dataclass(frozen=True, slots=True)
class Erased:
    """Number of sessions that were deleted, and the erasures that meet later arrivals."""

    sessions: int
    erasures: tuple[Erasure, ...]


def erase(
    engine: sa.Engine, selection: Selection, identities: Identities, now: float | None = None
) -> Erased:
    """Delete sessions with all their rows, and keep others of the selection from coming back.

    `now` is Unix time in seconds. Blocks. Raises `sqlalchemy.exc.SQLAlchemyError`; after that some
    of the sessions may be deleted, and erasing again deletes the rest.
    """
    before_ms = round((time.time() if now is None else now) * 1000) + 1
    chosen: list[Erasure] = []
    deleted = 0
    for tenant in sorted(set(selection.tenants)):
        digests, where = _targets(engine, selection, tenant, identities)
        if where is None:
            continue
        some = [Erasure(digest, before_ms) for digest in digests]
        # First: what a server writes from now on is compared with it.
        with writing(engine) as connection:
            rollups.lock(connection, shared=False)
            rows = [{"digest": e.digest, "before_ms": e.before_ms} for e in some]
            connection.execute(sa.insert(erasures), rows)
        begun = sessions.c.started_ms < before_ms
        for count in _delete(engine, sa.and_(sessions.c.tenant == tenant, begun, where)):
            deleted += count
        chosen += some
    if chosen:
        empty_log(engine)
    return Erased(deleted, tuple(chosen))


def _targets(
    engine: sa.Engine, selection: Selection, tenant: str, identities: Identities
) -> tuple[list[str], sa.ColumnElement[bool] | None]:
    """Return the digests of a selection in one tenant, and the condition of its sessions.

    The condition is None if there is no such session, nor can be one.
    """
    s, value = sessions.c, selection.value
    match selection.kind:
        case "session":
            known = sa.select(s.number).where(s.tenant == tenant, s.uid == value)
            with engine.connect() as connection:
                if connection.execute(known).first() is None:
                    return [], None
            return [identities.digest("session", tenant, value)], s.uid == value
        case "stream":
            stored = sorted({value, identities.stream(tenant, value)})
            digests = [identities.digest("stream", tenant, each) for each in stored]
            return digests, s.stream_id.in_(stored)
        case "attribute":
            name, _, text = value.partition(":")
            texts = sorted({text, identities.value(tenant, name, text)})
            digests = [identities.digest("attribute", tenant, name, each) for each in texts]
            a = session_attributes.c
            having = sa.select(a.session).where(a.name == name, a.value.in_(texts))
            return digests, s.number.in_(having)
        case "tenant":
            return [identities.digest("tenant", tenant)], sa.true()


def _delete(engine: sa.Engine, where: sa.ColumnElement[bool]) -> Iterator[int]:
    """Delete the sessions of a condition in batches; yield the number of each."""
    s = sessions.c
    some = sa.select(s.number, s.tenant, s.started_ms).where(where).order_by(s.started_ms)
    while True:
        with writing(engine) as connection:
            rollups.lock(connection, shared=False)
            found = connection.execute(some.limit(BATCH)).all()
            if found:
                numbers = [row.number for row in found]
                connection.execute(sa.delete(sessions).where(s.number.in_(numbers)))
                hours = {(row.tenant, rollups.hour_of(row.started_ms)) for row in found}
                rollups.recompute(connection, hours)
        if not found:
            return
        yield len(found)


def expire(
    engine: sa.Engine, days: dict[str, float | None], now: float
) -> Iterator[tuple[str, int]]:
    """Delete the sessions that are older than the days of their tenant.

    Yields the tenant and the number of sessions of each batch. `days` has every tenant's, None for
    those that are kept; see `tenants`. `now` is Unix time.
    """
    for tenant, limit in days.items():
        if limit is not None:
            before_ms = round(now * 1000 - limit * DAY_MS)
            s = sessions.c
            for count in _delete(engine, sa.and_(s.tenant == tenant, s.started_ms < before_ms)):
                yield tenant, count
    with writing(engine) as connection:
        old = erasures.c.before_ms < round(now * 1000) - REMEMBER_DAYS * DAY_MS
        connection.execute(sa.delete(erasures).where(old))


def tenants(engine: sa.Engine) -> list[str]:
    """Return the tenants that have sessions."""
    name = rollup_rows.c.tenant
    with engine.connect() as connection:
        return list(connection.execute(sa.select(name).distinct().order_by(name)).scalars())


def last_erasure(engine: sa.Engine) -> int:
    """Return the number of the newest erasure; 0 without one."""
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.max(erasures.c.number))).scalar() or 0


def erasures_since(engine: sa.Engine, number: int) -> tuple[int, list[Erasure]]:
    """Return the erasures with higher numbers, and the highest number."""
    e = erasures.c
    query = sa.select(e.number, e.digest, e.before_ms).where(e.number > number).order_by(e.number)
    with engine.connect() as connection:
        found: list[Any] = list(connection.execute(query))
    highest = found[-1].number if found else number
    return highest, [Erasure(row.digest, row.before_ms) for row in found]


def empty_log(engine: sa.Engine, timeout_s: float = TRUNCATE_S) -> bool:
    """Empty SQLite's write-ahead log, which holds older contents of pages; return whether it did.

    A reader, such as an export, prevents it; wait for at most `timeout_s` seconds.
    """
    if engine.dialect.name != "sqlite":
        return True
    deadline = time.monotonic() + timeout_s
    connection = engine.raw_connection()
    cursor = connection.cursor()
    try:
        # While it waits for readers, SQLite lets no one write.
        cursor.execute("PRAGMA busy_timeout = 50")
        while True:
            [busy, _, _] = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.1)
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
        connection.close()
