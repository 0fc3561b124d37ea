"""Queries of a running server: in threads of their own, a few at a time, each cut off in time."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import tzinfo
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from stream.history.queries import sessions as queries
from stream.history.queries.export import exported
from stream.history.queries.filters import Filter, Position
from stream.history.queries.summary import summary
from stream.history.storage.connect import open_engine
from stream.protocol.errors import ProtocolError
from stream.protocol.history import ExportFormat, ExportRows
from stream.protocol.wire.history import Grouping, HistoryDetail, HistoryList, HistorySummary

log = logging.getLogger(__name__)

T = TypeVar("T")

THREADS: Final = 2
WAITING: Final = 8
"""Queries that may wait for a thread; one more is refused."""

QUERY_S: Final = 10.0
"""Seconds after which a query is cut off."""

EXPORTS: Final = 2
"""Exports at a time. Their pieces take turns with queries."""

NICENESS: Final = 10
"""Niceness of the threads, so that live streams come first (Linux)."""

TURN_S: Final = 0.0005
"""Seconds after which Python switches threads while queries run. With its usual 5 ms, an export
delays the event loop, and so all streams, by that much again and again."""

STEPS: Final = 50_000
"""Instructions of SQLite between two checks of the time: some milliseconds."""


class HistoryReader:
    """Answers queries from the database of the history, which may be unreachable at times.

    Every method raises `ProtocolError` overloaded: if too many queries wait, if one is cut off, or
    if the database cannot be read.
    """

    def __init__(self, url: str, query_s: float = QUERY_S) -> None:
        self._engine = open_engine(url, pool_size=THREADS)
        self._query_s = query_s
        self._threads = ThreadPoolExecutor(THREADS, "emotide-history", _lower_priority)
        self._running = 0
        self._exports = 0
        self._active = 0
        """Calls that run in the threads, or wait for one."""
        self._usual_turn_s = sys.getswitchinterval()
        self._interrupts: set[Callable[[], object]] = set()
        """Functions that cut off the queries that run."""
        self._is_closed = False

    async def page(self, wanted: Filter, limit: int, after: Position | None) -> HistoryList:
        """Return a page of the list."""
        return await self._query(queries.page, wanted, limit, after)

    async def one(self, uid: str, tenants: frozenset[str] | None) -> HistoryDetail | None:
        """Return one session of some tenants, or None."""
        return await self._query(queries.one, uid, tenants)

    async def summary(self, wanted: Filter, by: Grouping, zone: tzinfo) -> HistorySummary:
        """Return a summary."""
        return await self._query(summary, wanted, by, zone)

    async def export(
        self, wanted: Filter, rows: ExportRows, form: ExportFormat
    ) -> AsyncGenerator[bytes, None]:
        """Return the pieces of an export, of which the first has been read."""
        if self._exports >= EXPORTS:
            text = f"{EXPORTS} exports run already; try again when one has ended"
            raise ProtocolError("overloaded", text, fatal=False, retry_after_s=10)
        pieces = self._pieces(exported(self.connect, wanted, rows, form))
        first = await anext(pieces, b"")
        return _joined(first, pieces)

    async def _pieces(self, pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        self._exports += 1
        try:
            while piece := await self._run(partial(next, pieces, b"")):
                yield piece
        finally:
            self._exports -= 1

    def close(self) -> None:
        """Accept no more queries, and cut off those that run: the process waits for its threads."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for interrupt in list(self._interrupts):
            with suppress(Exception):  # the connection may be gone
                interrupt()
        self._engine.dispose()

    async def _query(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._running >= THREADS + WAITING:
            raise ProtocolError(
                "overloaded",
                f"{self._running} queries of the history run or wait; try again later",
                fatal=False,
                retry_after_s=5,
            )

        def query() -> T:
            with self.connect() as connection:
                return function(connection, *arguments)

        self._running += 1
        try:
            return await self._run(query)
        finally:
            self._running -= 1

    async def _run(self, function: Callable[[], T]) -> T:
        self._active += 1
        if self._active == 1:
            self._usual_turn_s = sys.getswitchinterval()
            sys.setswitchinterval(TURN_S)
        try:
            return await asyncio.wrap_future(self._threads.submit(_translated, function))
        finally:
            self._active -= 1
            if not self._active:
                sys.setswitchinterval(self._usual_turn_s)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads, and that is cut off in time."""
        with self._engine.connect() as connection, self._interruptible(connection):
            if connection.dialect.name == "sqlite":
                with _until(connection, time.monotonic() + self._query_s):
                    yield connection
            else:
                limit = round(self._query_s * 1000)
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
                yield connection

    @contextmanager
    def _interruptible(self, connection: sa.Connection) -> Iterator[None]:
        """Begin a transaction that `close` can cut off."""
        raw: Any = connection.connection.driver_connection
        interrupt = raw.interrupt if connection.dialect.name == "sqlite" else raw.cancel
        self._interrupts.add(interrupt)
        try:
            with connection.begin():
                yield
        finally:
            self._interrupts.discard(interrupt)
            if self._is_closed:
                connection.invalidate()  # there is no pool to return it to


def _lower_priority() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@contextmanager
def _until(connection: sa.Connection, deadline: float) -> Iterator[None]:
    """Interrupt SQLite at a time of `time.monotonic`, and let it change nothing."""
    raw: Any = connection.connection.driver_connection
    raw.execute("PRAGMA query_only = ON")
    raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _translated(function: Callable[[], T]) -> T:
    """Call a function whose errors of the database become `ProtocolError`s for clients."""
    try:
        return function()
    except sa.exc.DBAPIError as error:
        if _was_cut_off(error):
            raise ProtocolError(
                "overloaded",
                "the query took too long and was cut off; narrow it with from and to",
                fatal=False,
                retry_after_s=10,
            ) from None
        raise unreadable(error) from error
    except sa.exc.SQLAlchemyError as error:
        raise unreadable(error) from error


def unreadable(error: sa.exc.SQLAlchemyError) -> ProtocolError:
    """Log that the database cannot be used; return the error for a client."""
    log.warning("history not accessible", extra={"reason": str(error).splitlines()[0][:300]})
    return ProtocolError(
        "overloaded",
        "the database of the history cannot be used at the moment; try again later",
        fatal=False,
        retry_after_s=10,
    )


def _was_cut_off(error: sa.exc.DBAPIError) -> bool:
    text = str(error.orig)
    return text == "interrupted" or "canceling statement" in text
