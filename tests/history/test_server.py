"""A real server with a history: what it keeps, and what a kill costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from stream.config import Config
from stream.errors import ConfigError
from stream.history.configured import history_of
from stream.history.storage.connect import open_engine
from stream.history.storage.tables import sessions, utterances
from stream.history.writing.spool import Spool
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from tests.support.clients import connect, stream
from tests.support.history_outage import outage
from tests.support.postgres import Postgres
from tests.support.posting import post
from tests.support.running import ROOT, Server, running_server, started_server
from tests.support.utterances import CLIPS, talk


def config(folder: Path, **fields: Any) -> str:
    """Return a configuration with a history in SQLite; a copy of live streams every second."""
    lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in fields.items()]
    return "\n".join(
        (
            "[limits]",
            "ahead_s = 1000",
            "[privacy]",
            "hash_ids = false",
            f'audit_log = "{folder}/audit.jsonl"',
            "[files]",
            f'folder = "{folder}/files"',
            "[history]",
            f'url = "sqlite:///{folder}/history.db"',
            f'spool = "{folder}/spool"',
            "checkpoint_s = 1",
            *lines,
        )
    )


def stored(folder: Path) -> list[sa.Row[Any]]:
    """Return the sessions with the number of their utterances, oldest first."""
    engine = open_engine(f"sqlite:///{folder}/history.db")
    said = sa.func.count(utterances.c.position).label("utterances")
    query = sa.select(sessions, said).select_from(sessions.outerjoin(utterances))
    with engine.connect() as connection:
        found = connection.execute(query.group_by(sessions.c.number).order_by(sessions.c.number))
        rows = list(found)
    engine.dispose()
    return rows


def wait(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def call(server: Server, stream_id: str, end: dict[str, Any] | None = None) -> None:
    async with stream(server, stream_id=stream_id, tag="queue:a") as client:
        await client.audio(talk(4.0), 6400)
        await client.until("emotion.score", timeout=30)
        if end is None:
            await client.close_session()
        else:
            await client.send(**end)
            await client.closed()


async def test_calls_and_recordings_are_kept_and_objections_are_not(tmp_path: Path) -> None:
    with running_server(config=config(tmp_path, recordings=True)) as server:
        await call(server, "call-1")
        await call(server, "SECRET", {"event_type": "session.annotate", "objected": True})
        async with connect(server, query={"sample_rate": 16_000, "stream_id": "probe"}) as client:
            await client.until("session.created")
            await client.close_session()
        file = (CLIPS / "03a01Wa.flac").read_bytes()
        post(server, "?wait=60&roles=customer", ("file", "greeting.flac", file))
        wait(lambda: server.metric("emotide_history_sessions_total", outcome="written") == 2)
        assert server.json("/v1/info")["history"] == {
            "enabled": True,
            "keep_days": 90,
            "recordings": True,
        }
    live, recording = stored(tmp_path)
    assert (live.stream_id, live.kind, live.reason) == ("call-1", "live", "completed")
    assert (live.utterances, live.duration_s) == (1, 4.0)
    assert live.speech_s > 1
    assert live.model
    assert live.model_license
    assert (recording.stream_id, recording.kind) == ("greeting.flac", "recording")
    assert (recording.utterances, recording.dominant is not None) == (1, True)
    assert recording.duration_s == pytest.approx(
        recording.detail["summary"][0]["speech_ms"] / 1000, abs=2
    )
    folders = [path for path in tmp_path.rglob("*") if path.is_file()]
    kept = [path for path in folders if path.suffix in (".db", ".jsonl", ".db-wal")]
    assert not any(b"SECRET" in path.read_bytes() for path in kept if path.name != "audit.jsonl")
    audit = [orjson.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert audit[0]["event"] == "history.on"


CHILD = """
import sys
from pathlib import Path
from stream.app import App
from stream.config import Config
from stream.inference.engine import ThreadEngine
from tests.support.plugins import Fast
privacy = {"audit_log": sys.argv[1]}
app = App(Config.model_validate({"privacy": privacy}), ThreadEngine(Fast, 32))
assert app._info()["history"] == {"enabled": False, "keep_days": None, "recordings": False}
assert not {"sqlalchemy", "alembic"} & {*sys.modules}
app._audit.close()
"""


def test_without_a_url_nothing_is_kept_and_nothing_is_imported(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    subprocess.run([sys.executable, "-c", CHILD, audit], check=True, timeout=60, cwd=ROOT)
    assert orjson.loads(audit.read_bytes())["event"] == "history.off"


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install emotide` without the extra: the server must not end with a traceback."""
    monkeypatch.setitem(sys.modules, "stream.history.service", None)
    given = Config.model_validate({"history": {"url": "sqlite:///h.db"}})
    with pytest.raises(ConfigError, match=r"history\.url: .*pip install 'emotide\[history\]'"):
        history_of(given, Metrics("1"), AuditLog(None))


async def test_a_server_killed_while_its_database_is_away_loses_and_doubles_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    """A supervisor finds all calls of the morning, also the one that was cut off: once each.
    `make soak` does the same with more calls for longer."""
    found = await outage(2.0, 2, 60.0, postgres, tmp_path, call_s=0.5)
    assert found.ended >= 4
    assert (found.missing, found.twice) == ((), ())
    assert found.cut_off >= 1


def test_a_server_whose_spool_is_in_use_refuses_to_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1_000_000)
    spool.open()
    with started_server(config=config(tmp_path)) as second:
        assert second.exit(60) == 2
        assert "history.spool: another server uses" in second.log()
    spool.close()
