"""SQL of a filter: its conditions, and the index that finds its sessions fastest.

A list is read in its order from an index, until the page is full. That is fast unless a condition
is rare, so each condition with an index by value is counted first, up to `RARE`: the sessions of a
rare one are looked up and sorted instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from stream.history.queries.filters import ANY_ALERT, NO_ALERT, Filter
from stream.history.storage.tables import (
    session_alerts,
    session_labels,
    session_roles,
    session_tags,
    sessions,
)

RARE: Final = 1_000
"""Fewer sessions than this are looked up one by one."""

Condition = sa.ColumnElement[bool]
Query = sa.Select[Any]


def tenants_of(connection: sa.Connection, wanted: Filter) -> list[str]:
    """Return the tenants that are searched; all that have sessions if the filter names none."""
    if wanted.tenants is not None:
        return sorted(wanted.tenants)
    # Jumps from one tenant to the next in the index, instead of reading all of it.
    found: list[str] = []
    tenant = sa.select(sa.func.min(sessions.c.tenant))
    name = connection.scalar(tenant)
    while name is not None:
        found.append(name)
        name = connection.scalar(tenant.where(sessions.c.tenant > name))
    return found


def in_time(column: sa.ColumnElement[int], wanted: Filter) -> Iterator[Condition]:
    """Yield the conditions on the start of a session."""
    if wanted.start_ms is not None:
        yield column >= wanted.start_ms
    if wanted.end_ms is not None:
        yield column < wanted.end_ms


def conditions(wanted: Filter, joined: sa.Table | None = None) -> list[Condition]:
    """Return all conditions for queries of `sessions`, but those on tenants and a joined table."""
    s = sessions.c
    found = list(in_time(s.started_ms, wanted))
    if wanted.kind is not None:
        found.append(s.kind == wanted.kind)
    if wanted.label is not None and wanted.share is None:
        found.append(s.dominant == wanted.label)
    found += _between(s.duration_s, wanted.min_duration_s, wanted.max_duration_s)
    found += _between(s.activation, wanted.min_activation, wanted.max_activation)
    if wanted.alert == NO_ALERT:
        found.append(s.alerts == 0)
    elif wanted.alert == ANY_ALERT:
        found.append(s.alerts > 0)
    if wanted.streams is not None:
        found.append(s.stream_id.in_(sorted(wanted.streams)))
    return found + [
        _exists(table, *of) for table, *of in _of_children(wanted) if table is not joined
    ]


def _between(
    column: sa.ColumnElement[float], least: float | None, most: float | None
) -> list[Condition]:
    found = [] if least is None else [column >= least]
    return found if most is None else [*found, column <= most]


def _exists(table: sa.Table, *of: Condition) -> Condition:
    return sa.exists().where(table.c.session == sessions.c.number, *of).correlate(sessions)


def _of_children(wanted: Filter) -> Iterator[tuple[Any, ...]]:
    """Yield each table of children with its conditions, those that are rarest first."""
    if wanted.rule is not None:
        yield session_alerts, session_alerts.c.rule == wanted.rule
    if wanted.label is not None and wanted.share is not None:
        share = session_labels.c.share >= wanted.share
        yield session_labels, session_labels.c.label == wanted.label, share
    if wanted.tag is not None:
        yield session_tags, session_tags.c.tag == wanted.tag
    if wanted.role is not None:
        yield session_roles, session_roles.c.role == wanted.role


def rare(connection: sa.Connection, wanted: Filter, tenant: str) -> list[int] | None:
    """Return the numbers of a superset of the sessions, if one condition alone has few of them."""
    best: list[int] | None = None
    for numbers in _by_value(wanted, tenant):
        limit = RARE if best is None else len(best)
        found = [row[0] for row in connection.execute(numbers.limit(limit))]
        if len(found) < limit:
            best = found
    return best


def _by_value(wanted: Filter, tenant: str) -> Iterator[Query]:
    """Yield a query of the numbers that fulfil each condition with an index by value."""
    s = sessions.c
    number = sa.select(s.number).where(s.tenant == tenant)
    if wanted.streams is not None:
        yield number.where(s.stream_id.in_(sorted(wanted.streams)))
    for column, *bounds in (
        (s.activation, wanted.min_activation, wanted.max_activation),
        (s.duration_s, wanted.min_duration_s, wanted.max_duration_s),
    ):
        if between := _between(column, *bounds):
            yield number.where(*between)
    for table, *of in _of_children(wanted):
        yield sa.select(table.c.session).where(table.c.tenant == tenant, *of)


def in_order(wanted: Filter, tenant: str) -> Query:
    """Return a query of (start, id, number) that an index answers in the order of the list."""
    s = sessions.c
    chosen = sa.select(s.started_ms, s.uid, s.number)
    # Shares are not in the order of time, so they are tested one by one.
    ordered = [(t, of) for t, *of in _of_children(wanted) if t is not session_labels]
    if not ordered:
        query = chosen.where(s.tenant == tenant, *conditions(wanted))
        return query.order_by(s.started_ms.desc(), s.uid.desc())
    (table, of), started = ordered[0], ordered[0][0].c.session_started_ms
    query = chosen.join(table, table.c.session == s.number)
    query = query.where(table.c.tenant == tenant, *of, *in_time(started, wanted))
    query = query.where(*conditions(wanted, joined=table))
    if table is session_alerts:
        earlier = session_alerts.alias()
        again = (
            sa.exists()
            .where(
                earlier.c.session == table.c.session,
                earlier.c.rule == table.c.rule,
                earlier.c.id < table.c.id,
            )
            .correlate(table)
        )
        query = query.where(~again)
    return query.order_by(started.desc(), s.uid.desc())


def among(wanted: Filter, numbers: Sequence[int]) -> Query:
    """Return a query of (start, id, number) in the order of the list, of a few sessions."""
    s = sessions.c
    query = sa.select(s.started_ms, s.uid, s.number).where(s.number.in_(numbers))
    return query.where(*conditions(wanted)).order_by(s.started_ms.desc(), s.uid.desc())
