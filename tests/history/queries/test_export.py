"""Exports of the history: CSV, JSON lines and Parquet have the same rows."""

from __future__ import annotations

import csv
import io
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from stream.history.queries import export, parquet
from stream.history.queries.export import exported
from stream.history.queries.filters import Filter
from stream.history.queries.sessions import one, page
from stream.history.storage.connect import writing
from stream.history.storage.identity import Identities
from stream.history.storage.store import insert
from stream.labels import LABELS
from stream.protocol.history import ExportFormat, ExportRows
from tests.support import history_model as model
from tests.support.history import record

CALLS = model.calls(60, seed=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty sessions are several parts."""
    monkeypatch.setattr(export, "CHUNK", 7)


def put(engine: sa.Engine, *some: Any) -> None:
    with writing(engine) as connection:
        insert(connection, some, Identities(None))


def whole(
    engine: sa.Engine, rows: ExportRows, form: ExportFormat, wanted: Filter | None = None
) -> bytes:
    return b"".join(exported(engine.connect, wanted or Filter(), rows, form))


def lines(data: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in data.splitlines()]


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_lines_of_sessions_are_the_list(engine: sa.Engine) -> None:
    put(engine, *CALLS)
    with engine.connect() as connection:
        expected = page(connection, Filter(), 100)["sessions"]
    assert lines(whole(engine, "sessions", "jsonl")) == expected
    rows = table(whole(engine, "sessions", "csv"))
    assert [row["id"] for row in rows] == [session["id"] for session in expected]
    for row, session in zip(rows, expected, strict=True):
        assert row["tags"].split() == session["tags"]
        activation = session["activation"]
        assert row["activation"] == ("" if activation is None else str(activation))
        shares = {label: float(row[label]) for label in LABELS if row[label]}
        assert shares == session["labels"]


def test_utterances_are_those_of_each_session(engine: sa.Engine) -> None:
    put(engine, *CALLS)
    expected: list[dict[str, Any]] = []
    with engine.connect() as connection:
        for session in page(connection, Filter(), 100)["sessions"]:
            found = one(connection, session["id"], None)
            assert found is not None
            of = {"session": session["id"], "stream_id": session["stream_id"]}
            of |= {"tenant": session["tenant"], "started_at": session["started_at"]}
            expected += [{**of, **said} for said in found["utterances"]]
    assert len(expected) > 40
    rows = lines(whole(engine, "utterances", "jsonl"))
    positions = [row.pop("position") for row in rows]
    assert rows == expected
    assert set(positions) == {0, 1}
    written = table(whole(engine, "utterances", "csv"))
    assert [float(row["end_s"]) for row in written] == [row["end_s"] for row in expected]
    assert [row["hints"] for row in written] == [" ".join(row["hints"]) for row in expected]
    assert [float(row["angry"]) for row in written] == [row["scores"]["angry"] for row in expected]


@pytest.mark.parametrize("rows", ["sessions", "utterances"])
def test_parquet_has_the_rows_of_the_lines(
    sqlite_engine: sa.Engine, rows: ExportRows, tmp_path: Path
) -> None:
    put(sqlite_engine, *CALLS)
    expected = lines(whole(sqlite_engine, rows, "jsonl"))
    done: list[int] = []
    parquet.write(tmp_path / "all.parquet", sqlite_engine.connect, Filter(), rows, done.append)
    read = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert sum(done) == len(CALLS)
    assert len(read) == len(expected)
    for row, line in zip(read, expected, strict=True):
        scores = line["labels" if rows == "sessions" else "scores"]
        shares = {label: row[label] for label in LABELS if row[label] is not None}
        assert shares == pytest.approx(scores)
        assert row["started_at"] == datetime.fromisoformat(line["started_at"])
        assert row["stream_id"] == line["stream_id"]


def test_an_export_keeps_no_transaction_while_its_reader_waits(sqlite_engine: sa.Engine) -> None:
    """A slow client must not keep SQLite's log from being emptied."""
    put(sqlite_engine, *CALLS)
    opened: list[AbstractContextManager[sa.Connection]] = []

    def connect() -> AbstractContextManager[sa.Connection]:
        opened.append(sqlite_engine.connect())
        return opened[-1]

    pieces = exported(connect, Filter(), "sessions", "jsonl")
    next(pieces)
    next(pieces)
    assert len(opened) == 2
    assert all(each.closed for each in opened)  # type: ignore[attr-defined]


def test_a_spreadsheet_computes_nothing(sqlite_engine: sa.Engine) -> None:
    """The name of a recording was a formula; a supervisor's spreadsheet ran it."""
    name = '=HYPERLINK("http://x","y")'
    put(sqlite_engine, record(stream_id=name))
    [session] = table(whole(sqlite_engine, "sessions", "csv"))
    assert session["stream_id"] == "'" + name
    rows = table(whole(sqlite_engine, "utterances", "csv"))
    assert {row["stream_id"] for row in rows} == {"'" + name}
    assert lines(whole(sqlite_engine, "sessions", "jsonl"))[0]["stream_id"] == name


def test_an_empty_export_has_its_head(sqlite_engine: sa.Engine) -> None:
    put(sqlite_engine, *CALLS)
    nobody = Filter(tenants=frozenset({"nobody"}))
    assert whole(sqlite_engine, "sessions", "jsonl", nobody) == b""
    assert whole(sqlite_engine, "utterances", "csv", nobody).decode().split(",")[:2] == [
        "session",
        "stream_id",
    ]


ORDERS = {
    "as in LABELS": '{"angry":0.1,"disgusted":0.0,"fearful":0.0,"happy":0.2,"neutral":0.5,'
    '"other":0.0,"sad":0.1,"surprised":0.05,"unknown":0.05}',
    "fewer": '{"angry":0.5,"neutral":0.5}',
    "another order": '{"sad":0.25,"angry":0.75}',
    "none": "{}",
    "with spaces": '{"angry": 0.5, "sad": 0.5}',
    "a foreign label": '{"bored":0.5,"sad":0.5}',
    "small": '{"angry":1e-05,"sad":1}',
}


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("scores", ORDERS)
def test_shares_are_under_their_label(first: str, scores: str) -> None:
    """The fast way cuts numbers out of stored text; a wrong order would swap emotions silently.

    Utterances of a session that differ in their labels must come out right all the same.
    """
    shares = orjson.loads(ORDERS[scores])
    cells = export._cells_of(tuple(orjson.loads(ORDERS[first])))(ORDERS[scores]).split(",")
    assert [float(cell) if cell else None for cell in cells] == [shares.get(n) for n in LABELS]
