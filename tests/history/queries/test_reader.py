"""Queries of a running server: read only, cut off in time, and no delay of others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from stream.history.queries.filters import Filter
from stream.history.queries.reader import EXPORTS, TURN_S, HistoryReader
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.identity import Identities
from stream.history.storage.store import insert
from stream.history.storage.tables import sessions
from stream.protocol.errors import ProtocolError
from tests.support import history_model as model
from tests.support.scheduling import until

CALLS = model.calls(120, seed=2)


@pytest.fixture
async def reader(url: str) -> AsyncIterator[HistoryReader]:
    """A reader of either kind of database with some sessions."""
    engine = open_engine(url)
    upgrade(engine)
    with writing(engine) as connection:
        insert(connection, CALLS, Identities(None))
    engine.dispose()
    reader = HistoryReader(url)
    yield reader
    reader.close()


async def test_queries_are_answered(reader: HistoryReader) -> None:
    page = await reader.page(Filter(), 500, None)
    assert len(page["sessions"]) == len(CALLS)
    assert await reader.one(CALLS[0].uid, None)
    rows = (await reader.summary(Filter(), "tenant", ZoneInfo("UTC")))["rows"]
    assert sum(row["calls"] for row in rows) == len(CALLS)


def test_a_query_changes_nothing(reader: HistoryReader) -> None:
    """A mistake in a query cannot lose a session."""
    with pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"), reader.connect() as opened:
        opened.execute(sa.delete(sessions))


ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x > 0) "
    "SELECT count(*) FROM n"
)
"""A query of rows without end."""


def endless(connection: sa.Connection) -> None:
    connection.exec_driver_sql(ENDLESS)


async def test_a_query_is_cut_off_and_the_next_one_answered(url: str) -> None:
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()
    reader = HistoryReader(url, query_s=0.2)
    with pytest.raises(ProtocolError, match="the query took too long and was cut off"):
        await reader._query(endless)
    assert await reader.one("x", None) is None
    reader.close()


async def test_a_query_that_runs_does_not_delay_the_end_of_the_server(url: str) -> None:
    """A process waits for its threads, so a slow query delayed a restart by 10 s."""
    reader = HistoryReader(url, query_s=3600)
    query = asyncio.create_task(reader._query(endless))
    await until(lambda: bool(reader._interrupts))
    await asyncio.sleep(0.2)  # the statement begins after its transaction
    reader.close()
    async with asyncio.timeout(60):
        with pytest.raises(ProtocolError):
            await query
    reader._threads.shutdown(wait=True)


async def test_other_threads_get_their_turn_during_an_export(reader: HistoryReader) -> None:
    """An export delayed the scores of live streams by 5 ms again and again: Python's usual turn."""
    usual = sys.getswitchinterval()
    during: list[float] = []

    def look(connection: sa.Connection) -> None:
        during.append(sys.getswitchinterval())

    await reader._query(look)
    assert during == [pytest.approx(TURN_S)]
    assert sys.getswitchinterval() == usual


async def test_an_export_that_is_given_up_makes_room_for_another(reader: HistoryReader) -> None:
    begun = [await reader.export(Filter(), "sessions", "jsonl") for _ in range(EXPORTS)]
    with pytest.raises(ProtocolError, match="exports run already"):
        await reader.export(Filter(), "sessions", "jsonl")
    for pieces in begun:
        async with aclosing(pieces):
            await anext(pieces)
            await anext(pieces)
    lines = 0
    async for piece in await reader.export(Filter(), "sessions", "jsonl"):
        lines += piece.count(b"\n")
    assert lines == len(CALLS)
