"""Store of results: unique folders, lookup by id and name, expiry, abandoned folders."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from stream.recordings.store import MARKER, ResultStore
from stream.result_files import AUDIO, RESULT, new_folder


def _create(root: Path, count: int, names: Any) -> None:
    for _ in range(count):
        names.put(new_folder(root, 1.7e9).name)


def test_folders_are_unique_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()
    processes = [context.Process(target=_create, args=(tmp_path, 25, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    names = [queue.get(timeout=20) for _ in range(100)]
    for process in processes:
        process.join(20)
    assert len(set(names)) == 100
    stamp = time.strftime("outputs_%Y%m%d_%H%M%S", time.localtime(1.7e9))
    assert set(names) == {stamp} | {f"{stamp}_{n}" for n in range(2, 101)}
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o700}


def publish(store: ResultStore) -> Any:
    pending = store.begin()
    (pending.folder / RESULT).write_text("{}")
    return store.publish(pending, [RESULT], "a")


def test_a_result_is_found_only_by_its_id_and_name(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, 60)
    one, other = publish(store), publish(store)
    assert one.id != other.id
    assert len(one.id) == 32
    found = store.find(one.id, RESULT)
    assert found is not None
    assert found[1] == one.folder / RESULT
    for key, name in (
        (one.id, MARKER),
        (one.id, "../" + RESULT),
        (one.id, f"../{other.folder.name}/{RESULT}"),
        (one.id, AUDIO),
        (one.id[:-1], RESULT),
        ("", RESULT),
    ):
        assert store.find(key, name) is None


def test_results_expire(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, 0.05)
    one = publish(store)
    time.sleep(0.1)
    assert store.find(one.id, RESULT) is None
    store.sweep()
    assert not one.folder.exists()


def test_a_discarded_result_is_not_found(tmp_path: Path) -> None:
    """A recording cancelled right at its end kept an id without files until it expired."""
    store = ResultStore(tmp_path, 60)
    pending = store.begin()
    (pending.folder / RESULT).write_text("{}")
    one = store.publish(pending, [RESULT], "a")
    store.discard(pending)
    assert store.find(one.id, RESULT) is None
    assert not one.folder.exists()


def test_a_pending_result_is_swept_only_after_its_lock_is_released(tmp_path: Path) -> None:
    writing, sweeping = ResultStore(tmp_path, 60), ResultStore(tmp_path, 60)
    pending = writing.begin()
    sweeping.sweep()
    assert pending.folder.exists()
    pending.lock.close()  # as the exit of its process does
    sweeping.sweep()
    assert not pending.folder.exists()


def test_another_process_registers_valid_results(tmp_path: Path) -> None:
    one = publish(ResultStore(tmp_path, 60))
    after = ResultStore(tmp_path, 60)
    assert after.find(one.id, RESULT) is None
    after.sweep()
    assert after.find(one.id, RESULT) is not None


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b'{"id":"../x"}',
        b"\xff",
        b'{"id":"%s","expires":9e9,"title":"a","names":["x"],"owner":""}',
        b'{"id":"%s","expires":9e9,"title":"a","names":["result.json"]}',
    ],
)
def test_a_folder_with_an_invalid_marker_is_deleted(record: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "outputs_1"
    folder.mkdir()
    (folder / MARKER).write_bytes(record.replace(b"%s", b"a" * 32))
    ResultStore(tmp_path, 60).sweep()
    assert not folder.exists()


def test_folders_without_a_marker_are_not_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / MARKER).touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "outputs_link").symlink_to(outside)
    (root / "outputs_plain").mkdir()
    (root / "other").mkdir()
    (root / "other" / MARKER).touch()
    (root / "outputs_file").touch()
    ResultStore(root, 0).sweep()
    assert len([*root.iterdir()]) == 4
    assert (outside / MARKER).exists()
    ResultStore(tmp_path / "none", 0).sweep()
