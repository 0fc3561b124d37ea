"""A history of generated sessions for `bench.history`: a year of calls of three tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson
import sqlalchemy as sa
from numpy.typing import NDArray

from stream.history.storage import tables
from stream.history.storage.record import SEVERITIES
from stream.history.storage.rollups import sums_of_sessions
from stream.labels import LABELS, activation

DAYS: Final = 365
DAY_MS: Final = 86_400_000
END_MS: Final = 1_795_824_000_000
"""2026-11-28, midnight UTC: the end of the year of calls."""

TENANTS: Final = {"default": 0.7, "acme": 0.2, "globex": 0.1}
QUEUES: Final = ("sales", "billing", "support", "orders", "claims", "travel", "vip", "fraud")
QUEUE_SHARES: Final = (0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01)
RULES: Final = {"angry_customer": "warning", "dead_air": "info", "escalation": "critical"}
RULE_RATES: Final = (0.05, 0.03, 0.0005)
"""Share of the sessions with an alert of each rule."""

MIXTURE: Final = (0.8, 0.1, 0.3, 0.8, 6.0, 0.5, 1.0, 0.3, 0.3)
"""Parameters of the Dirichlet distribution of a session's mean shares, by label."""

BATCH: Final = 2_000
"""Sessions that are made and inserted at a time."""

Rows = list[tuple[Any, ...]]
Shares = NDArray[np.float64]


def generate(
    engine: sa.Engine,
    count: int,
    utterances: int,
    progress: Callable[[int], None] = lambda done: None,
    seed: int = 1,
) -> None:
    """Fill empty tables with `count` sessions of so many utterances each, oldest first.

    Indexes are made afterwards, which takes a fraction of the time.
    """
    for index in _indexes():
        index.drop(engine)
    random = np.random.default_rng(seed)
    started = np.sort(_starts(random, count))
    with engine.connect() as connection:
        for first in range(0, count, BATCH):
            batch = Batch(random, first, started[first : first + BATCH], utterances)
            for table, rows in batch.tables():
                insert(connection, table, rows)
            connection.commit()
            progress(first + len(batch.started))
        fill_rollups(connection)
        connection.commit()
    for index in _indexes():
        index.create(engine)


def _indexes() -> list[sa.Index]:
    return [index for table in tables.metadata.sorted_tables for index in table.indexes]


def insert(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Insert rows whose values are in the order of the table's columns, JSON as text."""
    if rows:
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        marks = ", ".join([mark] * len(rows[0]))
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({marks})", rows)


def _starts(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return times of calls: few at night and at weekends."""
    days = np.arange(DAYS)
    weights = np.where((days + 4) % 7 < 5, 1.0, 0.25)  # the first is a Friday
    hours = np.exp(-(((np.arange(24) - 13.5) / 4.0) ** 2)) + 0.02
    day = random.choice(days, count, p=weights / weights.sum())
    hour = random.choice(24, count, p=hours / hours.sum())
    within = random.integers(0, 3_600_000, count)
    result: NDArray[np.int64] = END_MS - (DAYS - day) * DAY_MS + hour * 3_600_000 + within
    return result


class Batch:
    """Rows of consecutive sessions, numbered from `first` + 1."""

    def __init__(
        self,
        random: np.random.Generator,
        first: int,
        started: NDArray[np.int64],
        utterances: int,
    ) -> None:
        self.started = started
        self._first = first
        self._random = random
        count = len(started)
        self._duration = np.round(np.exp(random.normal(5.4, 0.7, count)) + 10, 3)
        self._speech = np.round(self._duration * random.uniform(0.25, 0.5, count), 3)
        self._means = random.dirichlet(MIXTURE, count)
        around = np.repeat(self._means, utterances, axis=0) * 12 + 0.02
        drawn = random.standard_gamma(around)
        shares = np.round(drawn / drawn.sum(axis=1, keepdims=True), 4)
        self._shares = shares.reshape(count, utterances, len(LABELS))
        drawn_tenants = random.choice(len(TENANTS), count, p=list(TENANTS.values()))
        self._tenants = [list(TENANTS)[at] for at in drawn_tenants]
        self._queues = random.choice(len(QUEUES), count, p=QUEUE_SHARES)

    def tables(self) -> Iterator[tuple[sa.Table, Rows]]:
        """Yield each table with its rows, those of sessions first."""
        numbers = range(self._first + 1, self._first + 1 + len(self.started))
        labels = [_scores(row) for row in np.round(self._shares.mean(axis=1), 4)]
        alerts = list(self._alerts(numbers))
        raised: dict[int, list[str]] = {}
        for alert in alerts:
            raised.setdefault(alert[0], []).append(alert[3])
        yield tables.sessions, list(self._sessions(numbers, labels, raised))
        yield tables.session_tags, list(self._tags(numbers))
        roles = [(n, r, *self._copies(n)) for n in numbers for r in ("customer", "agent")]
        yield tables.session_roles, roles
        yield (
            tables.session_labels,
            [
                (n, label, share, *self._copies(n))
                for n, scores in zip(numbers, labels, strict=True)
                for label, share in scores.items()
            ],
        )
        yield tables.utterances, list(self._utterances(numbers))
        yield tables.session_alerts, alerts

    def _copies(self, number: int) -> tuple[str, int]:
        """Return tenant and start of a session, which its tags, roles, labels and alerts have."""
        at = number - self._first - 1
        return self._tenants[at], int(self.started[at])

    def _sessions(
        self, numbers: range, labels: Sequence[dict[str, float]], raised: dict[int, list[str]]
    ) -> Iterator[tuple[Any, ...]]:
        uids = self._random.bytes(12 * len(numbers)).hex()
        for at, number in enumerate(numbers):
            scores, severities = labels[at], raised.get(number, [])
            duration, speech = float(self._duration[at]), float(self._speech[at])
            dead_air = round(duration * 0.02, 1)
            talk = {"heard_ms": int(duration * 1000), "dead_air_ms": int(dead_air * 1000)}
            summary = [{"channel": 0, "role": "customer", "scores": scores}]
            detail = {
                "channels": ["customer", "agent"],
                "summary": summary,
                "conversation": {"call": talk},
            }
            yield (
                number,
                "ses_" + uids[24 * at : 24 * at + 24],
                self._tenants[at],
                f"call-{number % 400_000}",
                "recording" if number % 50 == 0 else "live",
                "node-1",
                "emotide-embedded-3",
                "Apache-2.0",
                int(self.started[at]),
                duration,
                speech,
                "completed",
                activation(scores),
                max(scores, key=scores.__getitem__),
                len(severities),
                max(severities, key=SEVERITIES.index, default=None),
                dead_air,
                *scores.values(),
                orjson.dumps(detail).decode(),
            )

    def _tags(self, numbers: range) -> Iterator[tuple[Any, ...]]:
        for at, number in enumerate(numbers):
            copies = self._copies(number)
            yield number, f"queue:{QUEUES[self._queues[at]]}", *copies
            if number % 10 == 0:
                yield number, f"campaign:{number // 10 % 40}", *copies

    def _utterances(self, numbers: range) -> Iterator[tuple[Any, ...]]:
        for at, number in enumerate(numbers):
            shares = self._shares[at]
            step = int(self._duration[at] * 1000) // len(shares)
            for position, row in enumerate(shares.tolist()):
                scores = dict(zip(LABELS, row, strict=True))
                hints = '["narrowband"]' if position % 9 == 0 else "[]"
                text = orjson.dumps(scores).decode()
                begin = position * step
                end = begin + step // 2
                yield number, 0, position, begin, end, text, activation(scores), hints, 0.0

    def _alerts(self, numbers: range) -> Iterator[tuple[Any, ...]]:
        evidence = '{"peak": 0.71, "above": 0.6, "text": "angry above 60 % over 10 s"}'
        hits = self._random.random((len(numbers), len(RULES))) < RULE_RATES
        for at, rule in zip(*np.nonzero(hits), strict=True):
            number, (name, severity) = numbers[at], list(RULES.items())[rule]
            begin = int(self._duration[at] * 400)
            alert = (f"alr_{number:016x}-{rule}.1", name, severity, "customer")
            ends = (begin, begin + 9_000, evidence, None, None)
            yield number, *alert, *ends, *self._copies(number)


def _scores(row: Shares) -> dict[str, float]:
    return dict(zip(LABELS, row.tolist(), strict=True))


def fill_rollups(connection: sa.Connection) -> None:
    """Compute the roll-ups of all sessions."""
    sessions, tags = tables.sessions, tables.session_tags
    hour = sessions.c.started_ms - sessions.c.started_ms % 3_600_000
    all_tags: Iterable[tuple[Any, Any]] = (
        (sessions, sa.literal("")),
        (sessions.join(tags, tags.c.session == sessions.c.number), tags.c.tag),
    )
    for source, tag in all_tags:
        key = (sessions.c.tenant, tag, hour)
        sums = sa.select(*key, *sums_of_sessions()).select_from(source)
        names = [column.name for column in tables.rollups.c]
        connection.execute(tables.rollups.insert().from_select(names, sums.group_by(*key)))
