"""The writer: every session in the database once, whatever fails meanwhile."""

from __future__ import annotations

import logging
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stream.config import HistoryConfig
from stream.errors import ConfigError
from stream.history.storage import rollups
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.erasure import Selection, erase
from stream.history.storage.identity import Identities
from stream.history.storage.record import SessionRecord, encode
from stream.history.storage.store import Inserted, insert
from stream.history.storage.tables import sessions, utterances
from stream.history.writing import availability
from stream.history.writing import spool as spool_module
from stream.history.writing import writer as writer_module
from stream.history.writing.spool import Spool
from stream.history.writing.writer import Writer
from tests.support.history import BEGAN_MS, record, rows
from tests.support.postgres import Postgres
from tests.support.running import ROOT

IDS = Identities(None)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(availability, "LAST_RETRY_S", 0.2)
    monkeypatch.setattr(writer_module, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(writer_module, "IDLE_S", 0.05)
    monkeypatch.setattr(writer_module, "POLL_S", 0.05)


class Node:
    """A writer with its own spool, and what it counted."""

    def __init__(self, url: str, folder: Path, **fields: Any) -> None:
        values = {"url": url, "spool": folder / "spool", "keep_days": 0, **fields}
        self.config = HistoryConfig.model_validate(values)
        self.counts: dict[str, int] = {}
        self.expired: dict[str, int] = {}
        self.engine = open_engine(url)
        self.writer = Writer(self.engine, self.config, IDS, self._count, self.expired.__setitem__)

    def _count(self, outcome: str, number: int) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + number

    def put(self, *records: SessionRecord) -> None:
        for each in records:
            self.writer.put(encode(each))

    def spooled(self) -> bool:
        """Return whether all sessions have left the queue."""
        return not self.writer._queue


@contextmanager
def running(url: str, folder: Path, **fields: Any) -> Iterator[Node]:
    node = Node(url, folder, **fields)
    node.writer.open()
    try:
        yield node
    finally:
        node.writer.close(30.0)


def wait(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stored(engine: sa.Engine) -> dict[str, int]:
    """Return the number of utterances of each session, by uid."""
    query = (
        sa.select(sessions.c.uid, sa.func.count(utterances.c.position))
        .select_from(sessions.outerjoin(utterances))
        .group_by(sessions.c.number)
    )
    with engine.connect() as connection:
        found = list(connection.execute(query))
    assert len(found) == len({row[0] for row in found}), "a session is there twice"
    return {row[0]: row[1] for row in found}


def test_sessions_are_written_soon_and_leave_the_spool(url: str, tmp_path: Path) -> None:
    calls = [record() for _ in range(120)]
    with running(url, tmp_path) as node:
        node.put(*calls)
        wait(lambda: node.counts.get("written") == 120)
        wait(lambda: not node.writer.waiting)
        assert stored(node.engine) == {call.uid: 2 for call in calls}
    assert not [*(tmp_path / "spool").glob("*.jsonl")]


def test_what_waits_is_written_before_the_server_stops(url: str, tmp_path: Path) -> None:
    calls = [record() for _ in range(70)]
    with running(url, tmp_path) as node:
        node.put(*calls)
    engine = open_engine(url)
    assert len(stored(engine)) == 70
    engine.dispose()


def test_a_postgres_that_crashes_gets_each_session_once(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    calls = [record() for _ in range(30)]
    with running(postgres.database(), tmp_path) as node:
        node.put(*calls[:10])
        wait(lambda: node.counts.get("written") == 10)
        postgres.kill()
        try:
            node.put(*calls[10:20])
            wait(lambda: "not available" in caplog.text and node.spooled())
            assert node.writer.waiting == 10
            node.put(*calls[20:])
            wait(node.spooled)
        finally:
            postgres.start()
        wait(lambda: node.counts.get("written") == 30)
        assert stored(node.engine) == {call.uid: 2 for call in calls}
    messages = [line.getMessage() for line in caplog.records]
    assert messages.count("history database not available; sessions wait in the spool") == 1
    assert messages.count("history database available again") == 1


def test_a_server_starts_while_its_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    postgres.kill()
    try:
        node = Node(url, tmp_path)
        node.writer.open()
        node.put(record())
        wait(node.spooled)
    finally:
        postgres.start()
    try:
        wait(lambda: node.counts == {"written": 1})
    finally:
        node.writer.close(30.0)


def test_a_locked_file_delays_sessions_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that locks the database must not lose sessions, nor hold the stop of the server."""
    url = f"sqlite:///{tmp_path}/history.db"
    with running(url, tmp_path) as node:
        with writing(node.engine):
            sa.event.listen(
                node.engine, "checkout", lambda c, *_: c.execute("PRAGMA busy_timeout = 50")
            )
            node.put(record())
            wait(lambda: node.spooled() and node.writer._database.is_down)
            assert node.writer.waiting == 1
        wait(lambda: node.counts == {"written": 1})


def test_a_session_that_the_database_refuses_does_not_hold_the_others(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [record() for _ in range(5)]
    with running(url, tmp_path) as node:
        node.put(*calls[:3], record(model=None), *calls[3:])
        node.writer.put(b"no JSON")
        wait(lambda: node.counts == {"written": 5, "refused": 2})
        wait(lambda: not node.writer.waiting)
    assert "sessions not kept" in caplog.text


def test_a_damaged_line_is_counted_once_however_often_the_file_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read again at every attempt, and each attempt counted its damaged lines."""
    spool = Spool(tmp_path / "spool", 10_000_000)
    spool.open()
    spool.append([encode(record())])
    spool.close()
    [path] = (tmp_path / "spool").glob("0*.jsonl")
    path.write_bytes(path.read_bytes() + b"half a li")
    attempts = iter(range(100))

    def failing_twice(*given: Any) -> Inserted:
        if next(attempts) < 2:
            raise sa.exc.OperationalError("INSERT", {}, OSError("connection lost"))
        return insert(*given)

    monkeypatch.setattr(writer_module, "insert", failing_twice)
    with running(f"sqlite:///{tmp_path}/history.db", tmp_path) as node:
        wait(lambda: not node.writer.waiting)
    assert node.counts == {"written": 1, "refused": 1}
    assert next(attempts) == 3


def test_a_full_disk_is_reported_once_and_loses_nothing_while_there_is_memory(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    calls = [record() for _ in range(4)]
    with running(url, tmp_path) as node:
        with monkeypatch.context() as patched:
            patched.setattr(spool_module, "_append", full)
            node.put(*calls[:2])
            wait(lambda: node.counts.get("written") == 2)
            node.put(calls[2])
            wait(lambda: node.counts.get("written") == 3)
        node.put(calls[3])
        wait(lambda: node.counts == {"written": 4})
        assert len(stored(node.engine)) == 4
    messages = [line.getMessage() for line in caplog.records]
    assert messages.count("history spool not written; sessions wait in memory") == 1


def test_copies_of_live_sessions_that_cannot_be_written_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk was full while no session ended, and the log got a line every 30 s."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def reports() -> int:
        messages = [line.getMessage() for line in caplog.records]
        return messages.count("history checkpoint not written")

    node = Node(f"sqlite:///{tmp_path}/history.db", tmp_path)
    node.writer._spool.open()
    for expected in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(spool_module, "_append", full)
            for _ in range(3):
                node.writer.checkpoint([encode(record())])
                node.writer._write_checkpoint()
            assert reports() == expected
        node.writer.checkpoint([encode(record())])
        node.writer._write_checkpoint()
    node.writer._spool.close()
    node.engine.dispose()


def test_a_full_queue_drops_new_sessions_and_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(f"sqlite:///{tmp_path}/history.db", tmp_path, queue_mb=1)
    big = encode(record(detail={"summary": "x" * 300_000}))
    for _ in range(8):
        node.writer.put(big)
    assert node.counts == {"dropped": 5}
    messages = [line.getMessage() for line in caplog.records]
    assert messages.count("sessions not kept") == 1
    node.engine.dispose()


def test_closing_does_not_wait_for_a_database_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has seconds to stop; what is not in the database stays in the spool."""
    url = f"sqlite:///{tmp_path}/history.db"
    hangs, released = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        hangs.set()
        released.wait(60)

    with running(url, tmp_path) as node:
        monkeypatch.setattr(writer_module, "insert", slow)
        node.put(record())
        wait(hangs.is_set)
        node.put(record())
        began = time.monotonic()
        node.writer.close(0.2)
        assert time.monotonic() - began < 30
        assert node.writer.waiting == 2
        monkeypatch.undo()
        released.set()
    node.writer._spool.close()
    with running(url, tmp_path) as again:
        wait(lambda: not again.writer.waiting)
        assert len(stored(again.engine)) == 2


def test_a_newer_database_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    engine = open_engine(url)
    upgrade(engine)
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    node = Node(url, tmp_path)
    with pytest.raises(ConfigError, match="version 9999"):
        node.writer.open()
    node.writer.close(1.0)


CHILD = """
import sys
import time
from stream.config import HistoryConfig
from stream.history.storage.connect import open_engine
from stream.history.storage.identity import Identities
from stream.history.writing.writer import Writer
from tests.support.history import encoded
url, spool = sys.argv[1:]
config = HistoryConfig.model_validate({"url": url, "spool": spool})
writer = Writer(open_engine(url), config, Identities(None), lambda outcome, number: None)
writer.open()
for line in sys.stdin:
    writer.put(encoded(uid=line.strip()))
    while writer._queue:
        time.sleep(0.001)
    print(line.strip(), flush=True)
"""


def killed_child(url: str, folder: Path, finished: int) -> list[str]:
    """Run a writer in a process of its own; kill it after `finished` sessions are in its spool.

    Return the sessions that it had taken.
    """
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(folder / "spool")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        taken = []
        for _ in range(finished):
            child.stdin.write(secrets.token_hex(16) + "\n")
            child.stdin.flush()
            taken.append(child.stdout.readline().strip())
        child.send_signal(signal.SIGKILL)
    return taken


def test_a_killed_server_and_a_killed_database_lose_nothing_and_double_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.database()
    taken = killed_child(url, tmp_path, 20)
    postgres.kill()
    try:
        taken += killed_child(url, tmp_path, 20)
    finally:
        postgres.start()
    with running(url, tmp_path) as node:
        wait(lambda: not node.writer.waiting)
        assert stored(node.engine) == dict.fromkeys(taken, 2)


def test_a_live_session_of_a_killed_server_is_kept_as_far_as_it_was_copied(
    sqlite_engine: sa.Engine, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/history.db"
    live, ended = record(reason="interrupted"), record(reason="interrupted")
    spool = Spool(tmp_path / "spool", 10_000_000)
    spool.open()
    spool.checkpoint([encode(live), encode(ended)])
    spool.append([encode(record(uid=ended.uid, reason="completed"))])
    spool.close()
    with running(url, tmp_path) as node:
        wait(lambda: node.counts.get("written") == 2)
    with sqlite_engine.connect() as connection:
        found = connection.execute(sa.select(sessions.c.uid, sessions.c.reason))
        assert {row[0]: row[1] for row in found} == {
            live.uid: "interrupted",
            ended.uid: "completed",
        }


def test_what_is_erased_elsewhere_leaves_every_spool(url: str, tmp_path: Path) -> None:
    """Two servers share a database. One erases the calls of a customer, while the other server
    still has one of these calls in its spool, and another of them is live."""
    engine = open_engine(url)
    upgrade(engine)
    spool = Spool(tmp_path / "spool", 10_000_000)
    spool.open()
    spool.append([encode(record(stream_id="SECRET")), encode(record(stream_id="other"))])
    spool.close()
    erase(engine, Selection("stream", ["default"], "SECRET"), IDS)
    live = [encode(record(stream_id="LATER")), encode(record(stream_id="other"))]
    with running(url, tmp_path) as node:
        wait(lambda: node.counts == {"written": 1, "erased": 1})
        node.writer.checkpoint(live)
        file = tmp_path / "spool" / "live.jsonl"
        wait(file.exists)
        assert b"LATER" in file.read_bytes()
        erase(engine, Selection("stream", ["default"], "LATER"), IDS)
        wait(lambda: b"LATER" not in file.read_bytes())
        node.writer.checkpoint([*live, encode(record(stream_id="third"))])
        wait(lambda: b"third" in file.read_bytes())
        assert b"LATER" not in file.read_bytes()
        node.put(record(stream_id="LATER"))
        wait(lambda: node.counts == {"written": 1, "erased": 2})
    assert len(stored(engine)) == 1
    engine.dispose()


def test_sessions_whose_time_is_over_are_deleted(url: str, tmp_path: Path) -> None:
    engine = open_engine(url)
    upgrade(engine)
    now_ms = round(time.time() * 1000)
    old, new = now_ms - 40 * 86_400_000, now_ms - 20 * 86_400_000
    calls = [
        record(tenant=tenant, started_ms=at) for tenant in ("default", "acme") for at in (old, new)
    ]
    with running(url, tmp_path) as node:
        node.put(*calls, *(record(started_ms=BEGAN_MS) for _ in range(230)))
        wait(lambda: node.counts.get("written") == 234)
    with running(url, tmp_path, keep_days=30, tenants={"acme": 10}) as node:
        wait(lambda: node.expired == {"default": 231, "acme": 2})
    assert stored(engine) == {calls[1].uid: 2}
    engine.dispose()


def test_two_servers_and_an_erasure_keep_the_rollups_right(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Two servers add to the sums of the same hours, while sessions of these hours are erased."""
    url = postgres.database()
    with (
        running(url, tmp_path / "a") as first,
        running(url, tmp_path / "b") as second,
    ):
        for number in range(60):
            for node in (first, second):
                at = BEGAN_MS + number % 3 * 3_600_000
                node.put(record(stream_id=f"call-{number % 4}", started_ms=at))
            if number % 15 == 14:
                erase(first.engine, Selection("stream", ["default"], "call-1"), IDS)
        wait(lambda: not first.writer.waiting and not second.writer.waiting)
        erase(first.engine, Selection("stream", ["default"], "call-1"), IDS)
        kept = rows(first.engine)
        hours = {("default", row[2]) for row in kept["rollups"]}
        with writing(first.engine) as connection:
            rollups.lock(connection, shared=False)
            rollups.recompute(connection, hours)
        again = rows(first.engine)
    assert len(kept["sessions"]) == 90
    assert _rounded(again["rollups"]) == _rounded(kept["rollups"])


def _rounded(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in found]
