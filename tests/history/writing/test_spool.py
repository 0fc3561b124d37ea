"""The spool: whole or skipped lines, its bound, and files that a killed process left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.history.writing import spool as spool_module
from stream.history.writing.spool import LIVE, Spool

MB = 1_000_000


_spools: list[Spool] = []


@pytest.fixture(autouse=True)
def closed_spools() -> Iterator[None]:
    yield
    while _spools:
        _spools.pop().close()


def opened(folder: Path, max_bytes: int = 10 * MB) -> Spool:
    spool = Spool(folder, max_bytes)
    _spools.append(spool)
    spool.open()
    return spool


def drained(spool: Spool) -> list[bytes]:
    lines: list[bytes] = []
    while (segment := spool.oldest()) is not None:
        lines += segment.lines
        spool.remove(segment)
    return lines


def test_sessions_come_out_in_their_order_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.append([b'{"a":1}', b'{"a":2}'])
    first.append([b'{"a":3}'])
    first.close()
    second = opened(tmp_path)
    assert len(second) == 3
    second.append([b'{"a":4}'])
    assert drained(second) == [b'{"a":%d}' % n for n in (1, 2, 3, 4)]
    assert (len(second), second.size) == (0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = opened(folder)
    spool.append([b"{}"])
    spool.checkpoint([b"{}"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.jsonl")}
    assert modes == {0o600}


@pytest.mark.parametrize("cut", [1, 5, 20, 24])
def test_a_line_that_a_killed_process_left_is_skipped(tmp_path: Path, cut: int) -> None:
    """A kill in the middle of a write must cost that line at most, and never the ones after it."""
    spool = opened(tmp_path)
    spool.append([b'{"a":1}', b'{"a":2}'])
    spool.close()
    [path] = tmp_path.glob("0*.jsonl")
    os.truncate(path, path.stat().st_size - cut)
    again = opened(tmp_path)
    again.append([b'{"a":3}'])
    segment = again.oldest()
    assert segment is not None
    whole = [b'{"a":1}', b'{"a":2}'] if cut == 1 else [b'{"a":1}']
    assert [*segment.lines] == whole
    assert segment.damaged == (cut > 1)
    again.remove(segment)
    assert drained(again) == [b'{"a":3}']


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b'{"a":1}', b'{"a":2}'])
    [path] = tmp_path.glob("0*.jsonl")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"a":1', b'"a":7'))
    segment = spool.oldest()
    assert segment is not None
    assert (segment.lines, segment.damaged) == ((b'{"a":2}',), 1)


def test_the_oldest_sessions_are_dropped_and_counted_beyond_the_bound(tmp_path: Path) -> None:
    spool = opened(tmp_path, 3 * MB)
    line = b'"%b"' % (b"x" * 100_000)
    dropped = sum(spool.append([line] * 4) for _ in range(20))
    assert spool.size <= 3 * MB
    assert dropped + len(spool) == 80
    assert len(drained(spool)) == 80 - dropped


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle of a line: the sessions stay in memory and are written
    again later, so that half of them on the disk would be there twice, or damaged."""
    spool = opened(tmp_path)
    spool.append([b'{"a":1}'])

    def full(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data[:15])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "_append", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                spool.append([b'{"a":2}'])
    assert len(spool) == 1
    spool.append([b'{"a":2}'])
    assert drained(spool) == [b'{"a":1}', b'{"a":2}']


def test_two_servers_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(ConfigError, match=r"history\.spool: another server uses"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"history\.spool: cannot use .*file"):
        opened(tmp_path / "file")


def test_live_sessions_come_after_those_that_ended(tmp_path: Path) -> None:
    """A session that ended after the last copy is in both; the first one is kept."""
    spool = opened(tmp_path)
    spool.checkpoint([b'{"live":1}'])
    spool.checkpoint([b'{"live":2}'])
    spool.append([b'{"ended":1}'])
    spool.close()
    again = opened(tmp_path)
    assert drained(again) == [b'{"ended":1}', b'{"live":2}']
    assert not (tmp_path / LIVE).exists()
    again.checkpoint([b"{}"])
    again.checkpoint([])
    assert not (tmp_path / LIVE).exists()


def test_erased_sessions_leave_no_trace_in_the_folder(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b'{"a":"SECRET"}', b'{"a":"other"}'])
    spool.checkpoint([b'{"a":"SECRET live"}', b'{"a":"live"}'])
    assert spool.erase(lambda line: b"SECRET" in line) == 1
    texts = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(b"SECRET" in text for text in texts)
    assert len(spool) == 1
    spool.append([b'{"a":"new"}'])
    assert drained(spool) == [b'{"a":"other"}', b'{"a":"new"}']
