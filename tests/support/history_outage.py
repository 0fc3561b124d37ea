"""An outage of the history's database, with a server that is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from websockets.exceptions import WebSocketException

from stream.history.storage.connect import open_engine
from stream.history.storage.tables import sessions, utterances
from tests.support.clients import stream
from tests.support.postgres import Postgres
from tests.support.running import Server, running_server, started_server
from tests.support.utterances import talk


@dataclass(frozen=True, slots=True)
class Outage:
    """Result of an outage: the number of calls that ended, and of those that the kill cut off.

    `missing` calls ended and are not in the database, or have no utterances; `twice` are there
    twice; `late` ended after the last look at the spool before the kill, and are missing. All
    others were there `took_s` seconds after the database's return.
    """

    ended: int
    missing: tuple[str, ...]
    twice: tuple[str, ...]
    late: tuple[str, ...]
    cut_off: int
    took_s: float


async def outage(
    away_s: float,
    streams: int,
    patience_s: float,
    database: Postgres,
    folder: Path,
    call_s: float = 10.0,
) -> Outage:
    """Run calls for `away_s` seconds while a database is away; kill the server half-way.

    A stream begins a call every `call_s` seconds. Wait at most `patience_s` seconds for all calls
    after the database is back.
    """
    url = database.database()
    config = f"""
[limits]
ahead_s = 1000
catch_up = 1000
[privacy]
hash_ids = false
[history]
url = "{url}"
spool = "{folder}/spool"
checkpoint_s = 1
"""
    begin = time.monotonic()
    calls = Calls(streams, call_s)
    with started_server(config=config) as server:
        server.url = server.line("ready")["url"]
        server.port = int(server.url.rstrip("/").rpartition(":")[2])
        await calls.run(server, 0)  # one each, while the database is there
        first = set(calls.ended)
        await asyncio.to_thread(
            _until,
            lambda: server.metric("emotide_history_sessions_total", outcome="written") == streams,
        )
        database.kill()
        async with contextlib.AsyncExitStack() as stack:
            live = await stack.enter_async_context(stream(server, stream_id="live"))
            live.checks = False
            await live.audio(talk(4.0), 6400)
            await live.send("input.flush")
            await live.until("emotion.segment", timeout=60)
            spool = folder / "spool"
            copy = spool / "live.jsonl"
            await asyncio.to_thread(
                _until, lambda: copy.exists() and b'"live"' in copy.read_bytes()
            )
            running = asyncio.create_task(calls.run(server, begin + 1e9))
            await asyncio.sleep(max(0.5, begin + away_s / 2 - time.monotonic()))
            await asyncio.to_thread(_until, lambda: set(calls.ended) > first)
            safe = set(calls.ended)
            await asyncio.to_thread(_until, lambda: _spooled(spool, safe - first))
            calls.killed = server
            server.signal(signal.SIGKILL)
            await running
            late = set(calls.ended) - safe
        server.exit(10)
    with running_server(config=config) as server:
        await calls.run(server, begin + away_s)
        database.start()
        back = time.monotonic()
        engine = open_engine(url)
        wanted = set(calls.ended) - late
        while True:
            found = await asyncio.to_thread(_stored, engine)
            missing = tuple(sorted(wanted - {name for name, count in found.items() if count}))
            if not missing or time.monotonic() > back + patience_s:
                break
            await asyncio.sleep(0.2)
        took_s = time.monotonic() - back
        names = await asyncio.to_thread(_names, engine)
        engine.dispose()
    twice = tuple(sorted(name for name, count in Counter(names).items() if count > 1))
    cut_off = sum(name not in calls.ended for name in names)
    late -= set(names)
    return Outage(len(calls.ended), missing, twice, tuple(sorted(late)), cut_off, took_s)


class Calls:
    """Calls one after another on some streams; `ended` are those that were closed."""

    def __init__(self, streams: int, call_s: float) -> None:
        self._streams = streams
        self._call_s = call_s
        self._numbers = itertools.count()
        self.ended: dict[str, None] = {}
        self.killed: Server | None = None
        """Server that may close connections in any way."""

    async def run(self, server: Server, until: float) -> None:
        """Run calls until a time, or until the server is killed; at least one on each stream."""
        await asyncio.gather(*(self._stream(server, until) for _ in range(self._streams)))

    async def _stream(self, server: Server, until: float) -> None:
        try:
            while True:
                began = time.monotonic()
                name = f"call-{next(self._numbers)}"
                async with stream(server, stream_id=name) as client:
                    client.checks = False
                    await client.audio(talk(4.0), 6400)
                    await client.close_session(120)
                    self.ended[name] = None
                if time.monotonic() > until:
                    return
                await asyncio.sleep(max(0.0, began + self._call_s - time.monotonic()))
                if time.monotonic() > until:
                    return
        except (WebSocketException, OSError, AssertionError, EOFError):
            if server is not self.killed:
                raise


def _until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _spooled(spool: Path, names: set[str]) -> bool:
    """Return whether calls are on the disk."""
    text = b"".join(path.read_bytes() for path in spool.glob("0*.jsonl"))
    return all(f'"stream_id":"{name}"'.encode() in text for name in names)


def _stored(engine: sa.Engine) -> dict[str, int]:
    """Return the number of utterances of each call."""
    said = sa.func.count(utterances.c.position)
    query = sa.select(sessions.c.stream_id, said).select_from(sessions.outerjoin(utterances))
    with engine.connect() as connection:
        found = connection.execute(query.group_by(sessions.c.stream_id))
        return {row[0]: row[1] for row in found}


def _names(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(sessions.c.stream_id)).scalars())
