"""Queries of the history against a plain Python model, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream.history.queries import conditions
from stream.history.queries.filters import Filter, Position
from stream.history.queries.sessions import one, page
from stream.history.queries.summary import summary
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.identity import Identities
from stream.history.storage.store import insert
from stream.protocol.errors import ProtocolError
from stream.protocol.wire.history import Grouping
from tests.support import history_model as model
from tests.support.history import LABELS, record
from tests.support.postgres import Postgres

CALLS = model.calls(120)
FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def put(engine: sa.Engine, *some: Any) -> None:
    with writing(engine) as connection:
        insert(connection, some, Identities(None))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.Engine]:
    """A database of either kind with all sessions of the model."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('history')}/history.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    engine = open_engine(url)
    upgrade(engine)
    put(engine, *CALLS)
    yield engine
    engine.dispose()


@pytest.fixture(params=[1_000, 3], ids=["looked up", "in order"])
def rare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find sessions: few that fulfil one condition, and an index in order."""
    monkeypatch.setattr(conditions, "RARE", request.param)


def pages(engine: sa.Engine, wanted: Filter, limit: int) -> Iterator[list[str]]:
    """Yield the ids of all pages."""
    after: Position | None = None
    with engine.connect() as connection:
        while True:
            body = page(connection, wanted, limit, after)
            yield [session["id"] for session in body["sessions"]]
            if body["next"] is None:
                return
            after = Position.of(body["next"])


@pytest.mark.usefixtures("rare")
@settings(FEW, suppress_health_check=list(HealthCheck))
@given(wanted=model.filters(), limit=st.sampled_from((7, 40)))
def test_pages_are_the_list_of_the_model(filled: sa.Engine, wanted: Filter, limit: int) -> None:
    """All pages together are the sessions that fulfil the filter, each once, in order."""
    found = list(pages(filled, wanted, limit))
    assert [uid for some in found for uid in some] == model.listed(CALLS, wanted)
    assert all(len(some) == limit for some in found[:-1])


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


@settings(FEW, suppress_health_check=list(HealthCheck))
@given(
    wanted=model.filters(),
    simple=st.booleans(),
    by=st.sampled_from(("hour", "day", "tag", "tenant")),
    zone=st.sampled_from(ZONES),
)
@example(Filter(), True, "day", "Asia/Kolkata")
@example(Filter(), True, "hour", "Europe/Berlin")
@example(Filter(tag="queue:vip"), True, "tag", "UTC")
def test_summaries_are_those_of_the_model(
    filled: sa.Engine, wanted: Filter, simple: bool, by: Grouping, zone: str
) -> None:
    """From roll-ups, from sessions at the edges of hours, and from sessions alone."""
    if simple:
        wanted = Filter(wanted.tenants, wanted.start_ms, wanted.end_ms, tag=wanted.tag)
    expected = model.summed(CALLS, wanted, by, zone)
    with filled.connect() as connection:
        found = summary(connection, wanted, by, ZoneInfo(zone))
    assert [row["key"] for row in found["rows"]] == [row["key"] for row in expected]
    for row, should in zip(found["rows"], expected, strict=True):
        for name, value in should.items():
            assert row[name] == (value if name == "key" else near(value)), name  # type: ignore[literal-required]


def near(value: Any) -> Any:
    return value if value is None else pytest.approx(value, abs=0.06 if value == 0 else 1e-3)


def test_the_same_hour_comes_twice_when_clocks_are_set_back(sqlite_engine: sa.Engine) -> None:
    """In Berlin on 2026-10-25, 02:30 came twice; calls of both hours must not become one row."""
    first = 1_792_888_200_000
    calls = [record(started_ms=first + n * 3_600_000, tags=()) for n in range(3)]
    put(sqlite_engine, *calls)
    with sqlite_engine.connect() as connection:
        zone = ZoneInfo("Europe/Berlin")
        hours = summary(connection, Filter(), "hour", zone)["rows"]
        [day] = summary(connection, Filter(), "day", zone)["rows"]
    assert [row["key"][11:] for row in hours] == [
        "02:00:00+02:00",
        "02:00:00+01:00",
        "03:00:00+01:00",
    ]
    assert (day["key"], day["calls"]) == ("2026-10-25", 3)


def test_a_session_has_everything_about_it(engine: sa.Engine) -> None:
    detail = {"channels": ["customer", "agent"], "summary": [], "conversation": None, "left_out": 2}
    call = record(detail=detail, reason="interrupted")
    taken = replace(call.alerts[0], acknowledged_by="ann", acknowledged_ms=call.started_ms)
    put(engine, replace(call, alerts=(taken,)))
    with engine.connect() as connection:
        found = one(connection, call.uid, frozenset({"default"}))
        assert one(connection, call.uid, frozenset({"acme"})) is None
        assert one(connection, call.uid + "0", None) is None
    assert found is not None
    assert found["started_at"] == "2025-11-28T03:20:00.000Z"
    assert (found["tags"], found["alert_count"]) == (["queue:billing", "team:a"], 1)
    assert [u["role"] for u in found["utterances"]] == ["customer", "customer"]
    assert (found["reason"], found["left_out"]) == ("interrupted", 2)
    assert found["utterances"][1]["start_s"] == 5.0
    assert found["utterances"][0]["scores"] == LABELS
    assert found["gaps"] == [{"channel": 0, "start_s": 10.0, "end_s": 12.0, "reason": "overload"}]
    acknowledged = found["alerts"][0]["acknowledged"]
    assert acknowledged == {"by": "ann", "at": "2025-11-28T03:20:00.000Z"}


def test_a_page_goes_on_where_it_ended_though_sessions_come(sqlite_engine: sa.Engine) -> None:
    calls = model.calls(40, seed=8)
    put(sqlite_engine, *calls[:20])
    listing = pages(sqlite_engine, Filter(), 7)
    begun = next(listing)
    put(sqlite_engine, *calls[20:])
    rest = [uid for some in listing for uid in some]
    assert not {*begun} & {*rest}
    assert {call.uid for call in calls[:20]} <= {*begun, *rest}


@pytest.mark.parametrize("cursor", ["", "x", "MTIz", "MTIzLmE===", "é", "MTIzLmEK"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ProtocolError, match="cursor: is not one of this server's"):
        Position.of(cursor)


@given(st.integers(0, 10**14), st.text("0123456789abcdef_-", min_size=1, max_size=40))
def test_a_position_survives_its_cursor(started_ms: int, uid: str) -> None:
    position = Position(started_ms, uid)
    assert Position.of(position.cursor) == position


def test_a_summary_with_too_many_rows_is_refused(
    sqlite_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.history.queries.summary.MAX_ROWS", 20)
    put(sqlite_engine, *CALLS[:60])
    with (
        sqlite_engine.connect() as connection,
        pytest.raises(ProtocolError, match="by: the range has more than 20 rows; narrow it"),
    ):
        summary(connection, Filter(), "hour", ZoneInfo("UTC"))
