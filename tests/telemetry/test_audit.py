"""The audit log: complete, in order, and without delay for streams."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.telemetry.audit import AuditLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_json_lines_in_order_with_their_time(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    audit = AuditLog(path)
    before = time.time()
    for n in range(200):
        audit.record("session.created", stream_id=f"call\n{n}", n=n)
    audit.close()
    written = lines(path)
    assert [record["n"] for record in written] == list(range(200))
    assert {record["event"] for record in written} == {"session.created"}
    assert written[7]["stream_id"] == "call\n7"
    assert str(written[0]["ts"])[:10] == time.strftime("%Y-%m-%d", time.gmtime(before))


def test_an_existing_log_is_extended_and_not_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for n in range(2):
        audit = AuditLog(path)
        audit.record("run", n=n)
        audit.close()
    assert [record["n"] for record in lines(path)] == [0, 1]
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_without_a_path_nothing_is_written_and_no_thread_runs() -> None:
    threads = threading.active_count()
    audit = AuditLog(None)
    audit.record("anything", n=1)
    assert threading.active_count() == threads
    audit.close()


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"privacy\.audit_log: cannot write .*file/audit"):
        AuditLog(tmp_path / "file" / "audit.jsonl")


def test_a_log_file_that_was_rotated_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    audit.record("one")
    wait_for(lambda: path.read_text() != "")
    path.rename(tmp_path / "audit.1")
    audit.record("two")
    audit.close()
    assert [record["event"] for record in lines(path)] == ["two"]


def test_a_missing_disk_is_logged_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "disk"
    path = folder / "audit.jsonl"
    audit = AuditLog(path)
    path.unlink()
    folder.rmdir()
    with caplog.at_level(logging.ERROR):
        for n in range(5):
            audit.record("lost", n=n)
        wait_for(audit._records.empty)
        folder.mkdir()
        audit.record("kept")
        audit.close()
    assert [r.message for r in caplog.records] == ["audit records lost"]
    assert [record["event"] for record in lines(path)] == ["kept"]


@pytest.fixture
def hung_disk(tmp_path: Path) -> Iterator[Path]:
    """Path of a file whose opening blocks until a reader opens it, like a lost network disk."""
    path = tmp_path / "audit.fifo"
    os.mkfifo(path)
    yield path
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    time.sleep(0.05)
    os.close(reader)


def test_a_disk_that_hangs_delays_no_stream(
    hung_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(hung_disk, bound=3)
    began = time.monotonic()
    with caplog.at_level(logging.ERROR):
        for n in range(50):
            audit.record("x", n=n)
    assert time.monotonic() - began < 0.5
    assert [r.message for r in caplog.records] == ["audit records lost"]


def test_closing_ends_within_its_timeout_although_the_disk_hangs(hung_disk: Path) -> None:
    """A full queue has no place for the end marker. Waiting for a place without a limit blocked the
    server's exit for ever."""
    audit = AuditLog(hung_disk, bound=3)
    audit.record("blocked")
    wait_for(audit._records.empty)
    for n in range(10):
        audit.record("x", n=n)
    closing = threading.Thread(target=audit.close, args=(0.05,), daemon=True)
    closing.start()
    closing.join(1.0)
    assert not closing.is_alive()


def wait_for(condition: Callable[[], bool], timeout: float = 2.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.005)
