"""Erasure: no trace in tables, files, spool or memory; other sessions stay as they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from stream.config import Config
from stream.history.service import History, erase_offline
from stream.history.storage import erasure
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.erasure import Selection, SelectionKind, erase, expire, tenants
from stream.history.storage.identity import Identities, configured_identities
from stream.history.storage.record import SessionRecord, encode
from stream.history.storage.store import Inserted, insert
from stream.history.storage.tables import sessions
from stream.history.writing import writer as writer_module
from stream.history.writing.spool import Spool
from stream.telemetry.metrics import Metrics
from tests.support.history import BEGAN_MS, counts, record, rows
from tests.support.sessions import FakeAuditLog

IDS = Identities(None)
SECRET = "Zm9ZxSECRETq7"


def put(engine: sa.Engine, *records: SessionRecord) -> Inserted:
    with writing(engine) as connection:
        return insert(connection, records, IDS)


def secret(**fields: Any) -> SessionRecord:
    """Return a session that has the secret wherever a value may be a person's."""
    values: dict[str, Any] = {
        "stream_id": SECRET,
        "tags": (f"queue:{SECRET}",),
        "attributes": {"customer": SECRET},
        "detail": {"channels": ["customer"], "note": SECRET},
    }
    return record(**(values | fields))


def test_an_erased_stream_is_gone_from_all_tables_and_others_are_untouched(
    engine: sa.Engine,
) -> None:
    others = [record(), record(stream_id="call-2"), record(tenant="acme", stream_id=SECRET)]
    put(engine, *others)
    before = rows(engine)
    put(engine, secret(), secret(), secret(started_ms=BEGAN_MS + 3_600_000))
    erased = erase(engine, Selection("stream", ["default"], SECRET), IDS)
    assert erased.sessions == 3
    after = rows(engine)
    assert len(after.pop("erasures")) == 1
    del before["erasures"]
    assert after == before


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [
        ("stream", SECRET, {"b", "c", "d"}),
        ("attribute", "customer:7", {"a", "d"}),
        ("tenant", "", {"d"}),
        ("session", "b", {"a", "c", "d"}),
        ("session", "d", {"a", "b", "c", "d"}),
        ("stream", "unknown", {"a", "b", "c", "d"}),
    ],
)
def test_a_selection_meets_its_sessions_in_its_tenants_only(
    sqlite_engine: sa.Engine, kind: SelectionKind, value: str, left: set[str]
) -> None:
    put(
        sqlite_engine,
        record(uid="a", stream_id=SECRET),
        record(uid="b", attributes={"customer": "7"}),
        record(uid="c", attributes={"customer": "7", "vip": "true"}),
        record(uid="d", tenant="acme", stream_id=SECRET, attributes={"customer": "7"}),
    )
    erased = erase(sqlite_engine, Selection(kind, ["default"], value), IDS)
    assert erased.sessions == 4 - len(left)
    with sqlite_engine.connect() as connection:
        assert {*connection.execute(sa.select(sessions.c.uid)).scalars()} == left
    assert tenants(sqlite_engine) == sorted({"acme"} | ({"default"} if left != {"d"} else set()))


def test_a_hashed_stream_is_erased_by_its_id_and_by_what_is_shown(
    sqlite_engine: sa.Engine,
) -> None:
    identities = Identities(b"key")
    for value in (SECRET, identities.stream("default", SECRET)):
        put(sqlite_engine, record(stream_id=identities.stream("default", SECRET)))
        # A session of the same id that comes later is another one.
        erased = erase(
            sqlite_engine, Selection("stream", ["default"], value), identities, BEGAN_MS / 1000 + 1
        )
        assert erased.sessions == 1
        put(sqlite_engine, record(started_ms=BEGAN_MS + 5_000))
    assert counts(sqlite_engine)["sessions"] == 2


def test_an_attribute_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name:value"):
        Selection("attribute", ["default"], ":7")


def test_an_erased_session_does_not_come_back_from_a_spool(engine: sa.Engine) -> None:
    """A server killed between commit and the deletion of its file inserts the file again; a session
    erased meanwhile came back."""
    call, later = record(), record(started_ms=round(time.time() * 1000) + 60_000)
    put(engine, call)
    erase(engine, Selection("session", ["default"], call.uid), IDS)
    assert put(engine, call) == Inserted(0, 0, 1)
    erase(engine, Selection("tenant", ["default"]), IDS)
    assert put(engine, record(), later) == Inserted(1, 0, 1)


def test_nothing_erased_stays_in_the_files_of_sqlite(tmp_path: Path) -> None:
    """SQLite marks rows as deleted and leaves their bytes in the file and in its log."""
    engine = open_engine(f"sqlite:///{tmp_path}/history.db")
    upgrade(engine)
    # Overflow pages, freed pages, and a log that is not written back.
    put(engine, *(secret(detail={"note": SECRET * 900}) for _ in range(40)))
    put(engine, *(record() for _ in range(40)))
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() in written
    assert erase(engine, Selection("stream", ["default"], SECRET), IDS).sessions == 40
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path.name
    assert counts(engine)["sessions"] == 40
    engine.dispose()


def test_an_export_during_an_erasure_leaves_no_trace_in_the_log_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader keeps SQLite from emptying its log, in which the erased rows still are."""
    monkeypatch.setattr(writer_module, "POLL_S", 0.05)
    monkeypatch.setattr(writer_module, "IDLE_S", 0.05)
    history = History(config(tmp_path), Metrics("1"), FakeAuditLog())
    history.open()
    put(history.engine, secret(), record())
    log = tmp_path / "db" / "history.db-wal"
    with history.engine.connect() as reader:
        reader.execute(sa.select(sessions)).all()
        monkeypatch.setattr(erasure.empty_log, "__defaults__", (0.0,))
        found = erasure.erase(
            history.engine, Selection("stream", ["default"], SECRET), history.identities
        )
        assert found.sessions == 1
        assert SECRET.encode() in log.read_bytes()
    deadline = time.monotonic() + 60
    while SECRET.encode() in everything(tmp_path / "db"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    history._writer.close(5.0)
    history.close()


def test_retention_deletes_by_tenant_and_corrects_the_rollups(engine: sa.Engine) -> None:
    day = 86_400_000
    now_ms = BEGAN_MS + 100 * day
    calls = [
        record(tenant=tenant, started_ms=now_ms - age * day)
        for tenant in ("default", "acme", "kept")
        for age in (1, 20, 50)
    ]
    put(engine, *calls)
    days: dict[str, float | None] = {"acme": 10, "default": 30, "kept": None}
    deleted = dict(expire(engine, days, now_ms / 1000))
    assert deleted == {"acme": 2, "default": 1}
    stored = rows(engine)
    assert len(stored["sessions"]) == 6
    everything = [row for row in stored["rollups"] if row[1] == ""]
    assert sorted((row[0], row[3]) for row in everything) == [
        *[("acme", 1)],
        *[("default", 1)] * 2,
        *[("kept", 1)] * 3,
    ]


def config(tmp_path: Path, **privacy: Any) -> Config:
    return Config.model_validate(
        {
            "history": {"url": f"sqlite:///{tmp_path}/db/history.db", "spool": tmp_path / "spool"},
            "privacy": {"audit_log": tmp_path / "audit.jsonl", **privacy},
        }
    )


def everything(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_a_running_server_erases_from_memory_spool_and_database(tmp_path: Path) -> None:
    """The writer is not started, so that sessions stay in the queue and in the spool."""
    audit = FakeAuditLog()
    history = History(config(tmp_path, hash_ids=False), Metrics("1"), audit)
    upgrade(history.engine)
    put(history.engine, secret(), record())
    writer = history._writer
    writer._spool.open()
    writer._spool.append([encode(secret()), encode(record())])
    writer._spool.checkpoint([encode(secret())])
    writer.put(encode(secret()))
    writer.put(encode(record()))
    assert history.erase(Selection("stream", ["default"], SECRET), "default", "desk") == 3
    assert SECRET.encode() not in everything(tmp_path)
    assert writer.waiting == 2
    assert audit.records == [
        (
            "history.erase",
            {
                "tenant": "default",
                "key": "desk",
                "kind": "stream",
                "tenants": ["default"],
                "sessions": 3,
            },
        )
    ]
    history._writer.close(1.0)


def test_the_command_line_erases_without_a_server(tmp_path: Path) -> None:
    made = config(tmp_path)
    identities = configured_identities(made.history, made.privacy)
    stored = identities.stream("default", SECRET)
    engine = open_engine(made.history.url.get_secret_value())
    upgrade(engine)
    put(engine, record(stream_id=stored), record())
    spool = Spool(made.history.spool, 10_000_000)
    spool.open()
    spool.append([encode(record(stream_id=stored)), encode(record())])
    spool.close()
    assert erase_offline(made, engine, Selection("stream", ["default"], SECRET)) == 2
    engine.dispose()
    found = everything(tmp_path)
    assert stored.encode() not in found
    [line] = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    entry = orjson.loads(line)
    assert (entry["event"], entry["kind"], entry["sessions"]) == ("history.erase", "stream", 2)
    assert SECRET not in str(entry)


def test_a_spool_that_the_command_line_cannot_open_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who could not write the spool was told that the server erases from it."""
    made = config(tmp_path, hash_key="secret")
    made.history.spool.write_text("a file in place of the folder")
    engine = open_engine(made.history.url.get_secret_value())
    upgrade(engine)
    with caplog.at_level("INFO"):
        assert erase_offline(made, engine, Selection("stream", ["default"], SECRET)) == 0
    engine.dispose()
    [line] = [each for each in caplog.records if each.name == "stream.history.service"]
    assert line.levelname == "WARNING"
    assert "history.spool: cannot use" in line.message


def test_a_spool_in_use_is_left_to_its_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = config(tmp_path, hash_key="secret")
    spool = Spool(made.history.spool, 10_000_000)
    spool.open()
    engine = open_engine(made.history.url.get_secret_value())
    upgrade(engine)
    with caplog.at_level("INFO"):
        assert erase_offline(made, engine, Selection("stream", ["default"], SECRET)) == 0
    engine.dispose()
    spool.close()
    [line] = [each for each in caplog.records if each.name == "stream.history.service"]
    assert line.levelname == "INFO"


def test_the_key_of_hashed_ids_outlives_the_process_and_is_private(tmp_path: Path) -> None:
    made = config(tmp_path)
    first = configured_identities(made.history, made.privacy)
    again = configured_identities(made.history, made.privacy)
    assert first.stream("default", "a") == again.stream("default", "a")
    assert (tmp_path / "spool" / "ids.key").stat().st_mode & 0o777 == 0o600
    given = config(tmp_path / "other", hash_key="secret")
    configured_identities(given.history, given.privacy)
    assert not (tmp_path / "other").exists()


def test_an_audit_log_says_whether_a_history_is_kept(tmp_path: Path) -> None:
    audit = FakeAuditLog()
    history = History(config(tmp_path), Metrics("1"), audit)
    history.open()
    history._writer.close(5.0)
    assert [name for name, _ in audit.records] == ["history.on"]
