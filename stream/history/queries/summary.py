"""Summaries of the history by hour, day, tag or tenant. Blocking; in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import tzinfo
from typing import Any, Final

import sqlalchemy as sa

from stream.history.queries.conditions import conditions, tenants_of
from stream.history.queries.filters import Filter
from stream.history.queries.spans import Span, name_of, spans, unit_of
from stream.history.storage.rollups import sums_of_sessions
from stream.history.storage.tables import rollups, session_tags, sessions
from stream.labels import LABELS
from stream.protocol.errors import ProtocolError
from stream.protocol.wire.history import Grouping, HistoryRow, HistorySummary

MAX_ROWS: Final = 10_000
"""Rows of a summary: more than a year of hours."""

KEY: Final = "row_key"
GROUPED: Final[sa.ColumnElement[Any]] = sa.literal_column(KEY)
"""The key of a row by its name: repeated, its parameters would make it another expression."""

Query = sa.Select[Any]
Group = tuple[str, int]
"""Key of a row: name of a tag or tenant, or "" and the time; and the offset of local time."""


@dataclass(slots=True)
class Sums:
    """Sums over sessions, with the names of the columns of `rollups`."""

    calls: int = 0
    speech_s: float = 0.0
    scored_s: float = 0.0
    activation_s: float = 0.0
    activation_sum: float = 0.0
    alerts: int = 0
    dead_air_calls: int = 0
    dead_air_s: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)
    """Share x seconds of speech."""

    def add(self, values: Mapping[str, Any]) -> None:
        """Add the columns of a row; labels are null where no session had them."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + (values[name] or 0))
        for label in LABELS:
            if values[label] is not None:
                self.labels[label] = self.labels.get(label, 0.0) + values[label]

    def row(self, key: str) -> HistoryRow:
        """Return the sums and means."""
        scored, rated = self.scored_s, self.activation_s
        return {
            "key": key,
            "calls": self.calls,
            "speech_s": round(self.speech_s, 3),
            "scores": {
                label: min(1.0, round(self.labels.get(label, 0.0) / scored, 4))
                for label in LABELS
                if scored and label in self.labels
            },
            "activation": min(1.0, round(self.activation_sum / rated, 4)) if rated else None,
            "alerts": self.alerts,
            "dead_air_s": round(self.dead_air_s, 1) if self.dead_air_calls else None,
        }


NAMES: Final = tuple(f.name for f in fields(Sums) if f.name != "labels")


def summary(
    connection: sa.Connection, wanted: Filter, by: Grouping, zone: tzinfo
) -> HistorySummary:
    """Return the summary of the sessions of a filter.

    Rows of times ascend, others descend by calls. Raises `ProtocolError` if there are too many.
    """
    collected = _Summary(connection, wanted, by, zone)
    collected.run()
    return {"by": by, "rows": collected.rows()}


class _Summary:
    """One summary while it is made."""

    def __init__(
        self, connection: sa.Connection, wanted: Filter, by: Grouping, zone: tzinfo
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._by = by
        self._zone = zone
        self._tenants = tenants_of(connection, wanted)
        self._sums: dict[tuple[Any, int], Sums] = {}
        """By the key of a row in SQL, and for hours the offset of local time."""

    def run(self) -> None:
        start, end = self._range()
        if start >= end:
            return
        # Sessions with one tag may have others, whose sums by tag no roll-up has.
        other = self._by == "tag" and self._wanted.tag is not None
        if other or not self._wanted.of_rollups:
            chosen = [
                Span(span.start_ms, span.end_ms, span.offset_ms, rolled_up=False)
                for span in _joined(list(spans(start, end, self._zone, self._by)))
            ]
        else:
            chosen = list(spans(start, end, self._zone, self._by))
        for span in chosen:
            if span.rolled_up:
                self._add_rollups(span)
            else:
                self._add_sessions(span)
            if len(self._sums) > MAX_ROWS:
                raise ProtocolError(
                    "invalid_message",
                    f"by: the range has more than {MAX_ROWS} rows; narrow it with from and to, or "
                    "use by=day",
                    param="by",
                )

    def rows(self) -> list[HistoryRow]:
        unit = unit_of(self._by)
        if unit is None:
            named = sorted(self._sums.items(), key=lambda item: (-item[1].calls, item[0][0]))
            return [sums.row(key) for (key, _), sums in named]
        return [
            sums.row(name_of(key, offset, self._zone, self._by))
            for (key, offset), sums in sorted(
                self._sums.items(), key=lambda item: item[0][0] * unit - item[0][1]
            )
        ]

    def _range(self) -> tuple[int, int]:
        """Return the beginning and the end of the times with sessions, within the filter's."""
        s = sessions.c
        first: list[int] = []
        last: list[int] = []
        for tenant in self._tenants:
            of = sa.select(sa.func.min(s.started_ms)).where(s.tenant == tenant)
            begin = self._connection.scalar(of)
            if begin is not None:
                end = sa.select(sa.func.max(s.started_ms)).where(s.tenant == tenant)
                first.append(begin)
                last.append(self._connection.scalar(end) or begin)
        if not first:
            return 0, 0
        start, end_ms = min(first), max(last) + 1
        wanted = self._wanted
        return (
            start if wanted.start_ms is None else max(start, wanted.start_ms),
            end_ms if wanted.end_ms is None else min(end_ms, wanted.end_ms),
        )

    def _group(self, table: sa.Table, time: sa.ColumnElement[int], span: Span) -> Any:
        """Return the SQL of a row's key."""
        unit = unit_of(self._by)
        if unit is not None:
            # Integers of SQL are divided towards zero, and times are not negative.
            return sa.cast((time + span.offset_ms) // unit, sa.BigInteger)
        if self._by == "tenant":
            return table.c.tenant
        return session_tags.c.tag if table is sessions else table.c.tag

    def _add_rollups(self, span: Span) -> None:
        r = rollups.c
        key = self._group(rollups, r.hour_ms, span).label(KEY)
        sums = [sa.func.sum(r[name]).label(name) for name in (*NAMES, *LABELS)]
        query = sa.select(key, *sums).where(
            r.tenant.in_(self._tenants),
            r.tag != "" if self._by == "tag" else r.tag == (self._wanted.tag or ""),
            r.hour_ms >= span.start_ms,
            r.hour_ms < span.end_ms,
        )
        self._add(span, query.group_by(GROUPED))

    def _add_sessions(self, span: Span) -> None:
        s = sessions.c
        key = self._group(sessions, s.started_ms, span).label(KEY)
        where = [
            s.tenant.in_(self._tenants),
            s.started_ms >= span.start_ms,
            s.started_ms < span.end_ms,
            *conditions(self._wanted),
        ]
        source: sa.FromClause = sessions
        if self._by == "tag":
            source = sessions.join(session_tags, session_tags.c.session == s.number)
        query = sa.select(key, *sums_of_sessions()).select_from(source).where(*where)
        self._add(span, query.group_by(GROUPED))

    def _add(self, span: Span, query: Query) -> None:
        for row in self._connection.execute(query):
            values = row._asdict()
            self._sums_of(values.pop(KEY), span).add(values)

    def _sums_of(self, key: Any, span: Span) -> Sums:
        # The same hour comes twice when clocks are set back; a day may have two offsets.
        offset = span.offset_ms if self._by == "hour" else 0
        return self._sums.setdefault((key, offset), Sums())


def _joined(parts: Sequence[Span]) -> list[Span]:
    """Join adjacent spans with the same offset."""
    found: list[Span] = []
    for part in parts:
        if found and found[-1].offset_ms == part.offset_ms:
            part = Span(found.pop().start_ms, part.end_ms, part.offset_ms, rolled_up=False)
        found.append(part)
    return found
