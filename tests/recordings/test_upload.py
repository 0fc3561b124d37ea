"""Upload of one recording to disk, and the checks of its announced size."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stream.protocol.errors import ProtocolError
from stream.recordings import upload as upload_module
from stream.recordings.disk import DiskExecutor, disk_error
from stream.recordings.store import PendingResult, ResultStore
from stream.recordings.upload import Upload


@pytest.fixture
async def disk() -> AsyncIterator[DiskExecutor]:
    executor = DiskExecutor()
    yield executor
    executor.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def content(folder: Path) -> list[str]:
    """Return the names in a folder; empty if it does not exist."""
    return [path.name for path in folder.iterdir()] if folder.exists() else []


async def start(disk: DiskExecutor, root: Path, size: int | None, max_mb: float = 1.0) -> Upload:
    return await Upload.open("a.wav", size, max_mb, disk, ResultStore(root, 60))


async def test_an_upload_is_written_to_its_folder(disk: DiskExecutor, root: Path) -> None:
    upload = await start(disk, root, 10)
    assert upload.id.startswith("file_")
    await upload.write(b"01234")
    assert upload.share == 0.5
    with pytest.raises(ProtocolError, match="announced 10 bytes, received 5"):
        upload.check_complete()
    await upload.write(b"56789")
    upload.check_complete()
    await upload.close()
    assert await disk.run(upload.path.read_bytes) == b"0123456789"
    assert upload.path.parent.parent == root
    await upload.drop()


async def test_more_bytes_than_announced_are_refused_before_they_are_written(
    disk: DiskExecutor, root: Path
) -> None:
    upload = await start(disk, root, 4)
    with pytest.raises(ProtocolError, match="more than the 4 bytes announced") as refused:
        await upload.write(b"01234")
    error = refused.value
    assert (error.code, error.param, error.fatal) == ("invalid_message", "size", False)
    assert error.file_id == upload.id
    await upload.close()
    assert await disk.run(upload.path.read_bytes) == b""
    await upload.drop()


@pytest.mark.parametrize(("size", "code"), [(0, "empty_file"), (2_000_000, "file_too_large")])
async def test_an_invalid_size_creates_no_folder(
    disk: DiskExecutor, root: Path, size: int, code: str
) -> None:
    with pytest.raises(ProtocolError) as refused:
        await start(disk, root, size)
    assert (refused.value.code, refused.value.param) == (code, "size")
    assert not refused.value.fatal
    assert content(root) == []


async def test_a_file_that_is_too_large_names_both_sizes(disk: DiskExecutor, root: Path) -> None:
    with pytest.raises(ProtocolError, match=r"2\.0 MB, the maximum is 1 MB") as refused:
        await start(disk, root, 2_000_000)
    assert refused.value.values == {"mb": 2.0, "most_mb": 1.0}


async def test_a_dropped_upload_leaves_nothing(disk: DiskExecutor, root: Path) -> None:
    upload = await start(disk, root, 4)
    await upload.write(b"01")
    await upload.drop()
    assert content(root) == []


async def test_an_upload_that_is_cancelled_while_it_begins_leaves_nothing(
    disk: DiskExecutor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that came and went at once left open files and their folders behind."""
    store = ResultStore(root, 3600)
    may_go_on, begun = threading.Event(), threading.Event()
    made: list[PendingResult] = []
    begin = store.begin

    def slow() -> PendingResult:
        begun.set()
        may_go_on.wait(10)
        made.append(begin())
        return made[0]

    monkeypatch.setattr(store, "begin", slow)
    opening = asyncio.create_task(Upload.open("a.wav", 100, 1.0, disk, store))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    assert opening.cancelled()
    may_go_on.set()
    await disk.run(lambda: None)
    assert made[0].lock.closed
    assert not made[0].folder.exists()


async def test_a_cancelled_caller_does_not_keep_an_upload_from_being_removed(
    disk: DiskExecutor, root: Path
) -> None:
    """While the server drained, the removal waited its turn and was cancelled with its caller."""
    upload = await Upload.open("a.wav", 100, 1.0, disk, ResultStore(root, 3600))
    may_go_on = threading.Event()
    ahead = asyncio.create_task(disk.run(may_go_on.wait, 10))
    dropping = asyncio.create_task(upload.drop())
    await asyncio.sleep(0.01)
    dropping.cancel()
    await asyncio.gather(dropping, return_exceptions=True)
    may_go_on.set()
    await ahead
    await disk.run(lambda: None)
    assert upload.pending.lock.closed
    assert not upload.pending.folder.exists()


async def test_an_upload_that_outlasts_the_disk_thread_is_removed(
    disk: DiskExecutor, root: Path
) -> None:
    """A connection whose end came after the drain left its file and its lock open at exit."""
    upload = await start(disk, root, 10)
    disk.close()
    await upload.drop()
    assert content(root) == []
    assert upload.pending.lock.closed


async def test_a_file_that_cannot_be_created_leaves_no_folder(
    disk: DiskExecutor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "UPLOAD", "missing/file")
    with pytest.raises(FileNotFoundError):
        await start(disk, root, 4)
    assert content(root) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EACCES, "internal_error"),
    ],
)
def test_disk_errors_have_a_code_and_no_path(number: int, code: str) -> None:
    error = disk_error(OSError(number, "no", "/srv/outputs"))
    assert (error.code, error.fatal) == (code, False)
    assert "/srv" not in error.message


async def test_calls_run_in_order_and_return_or_raise(disk: DiskExecutor) -> None:
    calls: list[int] = []

    def call(number: int, *, error: bool = False) -> int:
        calls.append(number)
        if error:
            raise OSError("refused by the test")
        return number

    async def run(number: int, **options: Any) -> int:
        return await disk.run(call, number, **options)

    assert [await run(n) for n in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="refused by the test"):
        await run(3, error=True)
    assert calls == [0, 1, 2, 3]


async def test_an_upload_without_a_size_is_bounded_and_not_empty(
    disk: DiskExecutor, root: Path
) -> None:
    upload = await start(disk, root, None, max_mb=0.00001)
    assert upload.share == 0
    with pytest.raises(ProtocolError) as refused:
        upload.check_complete()
    assert (refused.value.code, refused.value.file_id) == ("empty_file", upload.id)
    await upload.write(b"0123456789")
    upload.check_complete()
    assert upload.share == 0
    with pytest.raises(ProtocolError) as refused:
        await upload.write(b"x")
    assert (refused.value.code, refused.value.file_id) == ("file_too_large", upload.id)
    await upload.close()
    assert await disk.run(upload.path.read_bytes) == b"0123456789"
    await upload.drop()
    assert content(root) == []
