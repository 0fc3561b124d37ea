"""Exports of the history: sessions or utterances as CSV or JSON lines, in pieces. Blocking.

Sessions are read `CHUNK` at a time, each time in a transaction of its own, so that a slow client
keeps no snapshot of the database.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final, TypeVar

import orjson
import sqlalchemy as sa

from stream.history.queries.conditions import conditions, tenants_of
from stream.history.queries.filters import Filter, Position
from stream.history.queries.sessions import bodies, find, roles_of
from stream.history.storage.tables import sessions, utterances
from stream.labels import LABELS
from stream.protocol.history import ExportFormat, ExportRows
from stream.protocol.wire.history import HistorySession
from stream.types import timestamp

T = TypeVar("T")
Connect = Callable[[], AbstractContextManager[sa.Connection]]
"""Opens a transaction for one piece."""

CHUNK: Final = 50
"""Sessions that are read at a time. Larger chunks are hardly faster, but with so many objects the
garbage collector stops all threads for tens of milliseconds."""

SESSION_COLUMNS: Final = (
    *("id", "stream_id", "tenant", "kind", "started_at", "duration_s", "speech_s", "tags", "roles"),
    *("dominant", "activation", "alert_count", "severity", "dead_air_s", "model", *LABELS),
)
OF_SESSION: Final = ("session", "stream_id", "tenant", "started_at")
OF_UTTERANCE: Final = ("channel", "role", "position", "start_s", "end_s")
OF_SCORES: Final = ("activation", "hints", "baseline_weight")
UTTERANCE_COLUMNS: Final = (*OF_SESSION, *OF_UTTERANCE, *OF_SCORES, *LABELS)

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters of text that a spreadsheet would compute."""


def count(connection: sa.Connection, wanted: Filter) -> int:
    """Return the number of sessions of a filter."""
    of = sessions.c.tenant.in_(tenants_of(connection, wanted))
    query = sa.select(sa.func.count()).select_from(sessions).where(of, *conditions(wanted))
    return connection.execute(query).scalar_one()


def exported(
    connect: Connect,
    wanted: Filter,
    rows: ExportRows,
    form: ExportFormat,
    progress: Callable[[int], None] = lambda sessions: None,
) -> Iterator[bytes]:
    """Yield an export in pieces, newest sessions first; `progress` gets the count of each piece."""
    columns = SESSION_COLUMNS if rows == "sessions" else UTTERANCE_COLUMNS
    # With the first rows, so that nothing is sent before a query has succeeded.
    head = _line(columns) if form == "csv" else b""

    def make(connection: sa.Connection, numbers: list[int]) -> bytes:
        if rows == "sessions":
            return b"".join(map(_writer_of(form), bodies(connection, numbers)))
        return b"".join(_utterances(connection, numbers, form))

    for rest in in_parts(connect, wanted, make, progress):
        if piece := head + rest:
            yield piece
        head = b""


def in_parts(
    connect: Connect,
    wanted: Filter,
    make: Callable[[sa.Connection, list[int]], T],
    progress: Callable[[int], None],
) -> Iterator[T]:
    """Yield what `make` returns for the numbers of up to `CHUNK` sessions at a time.

    Nothing is yielded within a transaction: the client may take it late, or never.
    """
    after: Position | None = None
    while True:
        with connect() as connection:
            keys = list(find(connection, wanted, CHUNK, after))
            made = make(connection, [number for _, _, number in keys])
        yield made
        progress(len(keys))
        if len(keys) < CHUNK:
            return
        after = Position(*keys[-1][:2])


def _writer_of(form: ExportFormat) -> Callable[[HistorySession], bytes]:
    return _csv_of if form == "csv" else lambda body: orjson.dumps(body) + b"\n"


def _csv_of(body: HistorySession) -> bytes:
    fields: dict[str, Any] = {**body, "tags": " ".join(body["tags"])}
    fields |= {"roles": " ".join(body["roles"]), "stream_id": plain(body["stream_id"])}
    fields |= {label: body["labels"].get(label) for label in LABELS}
    return _line([fields[name] for name in SESSION_COLUMNS])


def plain(text: str) -> str:
    """Return text that a spreadsheet does not compute: a formula gets an apostrophe."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _line(fields: Sequence[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def spoken(connection: sa.Connection, numbers: Sequence[int]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each session (uid, stream_id, tenant, started_ms, detail) with its utterances.

    Scores and hints are text, as they are stored: most of an export passes them on.
    """
    s, u = sessions.c, utterances.c
    chosen = sa.select(s.number, s.uid, s.stream_id, s.tenant, s.started_ms, s.detail)
    found = connection.execute(chosen.where(s.number.in_(numbers)))
    of: dict[int, Any] = {row.number: row for row in found}
    texts = (sa.cast(u.scores, sa.Text), sa.cast(u.hints, sa.Text))
    query = sa.select(
        *(u.session, u.channel, u.position, u.start_ms, u.end_ms),
        *(texts[0], u.activation, texts[1], u.baseline_weight),
    )
    query = query.where(u.session.in_(numbers)).order_by(u.session, u.channel, u.position)
    said: dict[int, list[Any]] = {number: [] for number in numbers}
    for row in connection.execute(query).all():
        said[row[0]].append(row)
    yield from ((of[number], said[number]) for number in numbers if number in of)


def _utterances(
    connection: sa.Connection, numbers: Sequence[int], form: ExportFormat
) -> Iterator[bytes]:
    write = _csv_rows if form == "csv" else _json_rows
    for session, said in spoken(connection, numbers):
        if said:
            yield write(session, said).encode()


# A hundred thousand rows a second leave ten microseconds for each, so their lines are put together
# from texts that need no escapes: numbers, and scores as they are stored.


def _csv_rows(session: sa.Row[Any], said: Sequence[Any]) -> str:
    fields = (session.uid, plain(session.stream_id), session.tenant, _started(session))
    first = _line(fields).decode().rstrip("\n")
    lines = []
    roles = roles_of(session.detail)
    # The utterances of a session are of one model, so their labels are in one order.
    shares = _cells_of(tuple(orjson.loads(said[0][5])))
    for _, channel, position, start, end, scores, activation, hints, weight in said:
        rated = "" if activation is None else activation
        lines.append(
            f"{first},{channel},{roles.get(channel, 'speaker')},{position},{start / 1000},"
            f"{end / 1000},{rated},{_words(hints)},{weight},{shares(scores)}\n"
        )
    return "".join(lines)


def _json_rows(session: sa.Row[Any], said: Sequence[Any]) -> str:
    fields = (session.uid, session.stream_id, session.tenant, _started(session))
    names = dict(zip(OF_SESSION, fields, strict=True))
    first = orjson.dumps(names).decode().removesuffix("}")
    lines = []
    roles = roles_of(session.detail)
    for _, channel, position, start, end, scores, activation, hints, weight in said:
        rated = "null" if activation is None else activation
        lines.append(
            f'{first},"channel":{channel},"role":"{roles.get(channel, "speaker")}",'
            f'"position":{position},"start_s":{start / 1000},"end_s":{end / 1000},'
            f'"scores":{scores},"activation":{rated},"hints":{hints},"baseline_weight":{weight}}}\n'
        )
    return "".join(lines)


def _started(session: sa.Row[Any]) -> str:
    return timestamp(session.started_ms / 1000)


@lru_cache(maxsize=100)
def _cells_of(order: tuple[str, ...]) -> Callable[[str], str]:
    """Return a function from stored scores with labels in this order to the cells of `LABELS`.

    The numbers are cut out of the text, which takes a quarter of the time of reading and writing
    them. Any other text is read as JSON.
    """
    names = [f'"{label}":' for label in order]
    places = [order.index(label) if label in order else -1 for label in LABELS]

    def cells(scores: str) -> str:
        parts = scores[1:-1].split(",")
        if len(parts) == len(names):
            values = [part.removeprefix(name) for part, name in zip(parts, names, strict=True)]
            text = ",".join(values)
            if '"' not in text and " " not in text:
                return text if order == LABELS else ",".join([[*values, ""][at] for at in places])
        shares = orjson.loads(scores)
        return ",".join([str(shares.get(label, "")) for label in LABELS])

    return cells


@lru_cache(maxsize=1_000)
def _words(hints: str) -> str:
    return " ".join(orjson.loads(hints))
