"""Results on disk: each in a folder of its own, found by its address alone, and gone in time."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from stream.recordings.store import MARKER, ResultStore
from stream.recordings.writer import AUDIO, RESULT, new_folder


def _make(root: Path, count: int, made: Any) -> None:
    for _ in range(count):
        made.put(new_folder(root, 1.7e9).name)


def test_folders_are_unique_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    made: Any = context.Queue()
    several = [context.Process(target=_make, args=(tmp_path, 25, made)) for _ in range(4)]
    for process in several:
        process.start()
    names = [made.get(timeout=20) for _ in range(100)]
    for process in several:
        process.join(20)
    assert len(set(names)) == 100
    stamp = time.strftime("outputs_%Y%m%d_%H%M%S", time.localtime(1.7e9))
    assert set(names) == {stamp} | {f"{stamp}_{n}" for n in range(2, 101)}
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o700}


def kept(store: ResultStore) -> Any:
    draft = store.begin()
    (draft.folder / RESULT).write_text("{}")
    return store.publish(draft, [RESULT], "a")


def test_a_result_is_found_by_its_id_and_name_alone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, 60)
    one, other = kept(store), kept(store)
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
    one = kept(store)
    time.sleep(0.1)
    assert store.find(one.id, RESULT) is None
    store.sweep()
    assert not one.folder.exists()


def test_a_result_that_is_discarded_is_not_found(tmp_path: Path) -> None:
    """A recording cancelled as it ended left an address of nothing, until that expired."""
    store = ResultStore(tmp_path, 60)
    draft = store.begin()
    (draft.folder / RESULT).write_text("{}")
    one = store.publish(draft, [RESULT], "a")
    store.discard(draft)
    assert store.find(one.id, RESULT) is None
    assert not one.folder.exists()


def test_a_draft_is_left_alone_while_somebody_writes_it(tmp_path: Path) -> None:
    mine, theirs = ResultStore(tmp_path, 60), ResultStore(tmp_path, 60)
    draft = mine.begin()
    theirs.sweep()
    assert draft.folder.exists()
    draft.lock.close()  # as the end of its process does
    theirs.sweep()
    assert not draft.folder.exists()


def test_another_process_takes_up_what_still_holds(tmp_path: Path) -> None:
    one = kept(ResultStore(tmp_path, 60))
    after = ResultStore(tmp_path, 60)
    assert after.find(one.id, RESULT) is None
    after.sweep()
    assert after.find(one.id, RESULT) is not None


def test_results_from_before_they_had_owners_are_kept(tmp_path: Path) -> None:
    """A restart with the next release deleted every result that the last one wrote."""
    one = kept(ResultStore(tmp_path, 60))
    marker = one.folder / MARKER
    record = json.loads(marker.read_bytes())
    del record["owner"]
    marker.write_text(json.dumps(record))
    after = ResultStore(tmp_path, 60)
    after.sweep()
    assert after.find(one.id, RESULT) is not None


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b'{"id":"../x"}',
        b"\xff",
        b'{"id":"%s","expires":9e9,"title":"a","names":["x"],"owner":""}',
    ],
)
def test_a_marker_that_is_not_whole_is_a_leftover(record: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "outputs_1"
    folder.mkdir()
    (folder / MARKER).write_bytes(record.replace(b"%s", b"a" * 32))
    ResultStore(tmp_path, 60).sweep()
    assert not folder.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
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
