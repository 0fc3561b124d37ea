"""Spool: finished sessions on disk from their end until they are in the database.

Files of lines: length and CRC-32 of the JSON in hexadecimal, and the JSON. A line that a killed
process left half-written is recognised and skipped. All methods block; one thread at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from zlib import crc32

from stream.durable import sync
from stream.errors import ConfigError

SEGMENT_BYTES: Final = 1_000_000
"""Size from which a file gets no more lines; it bounds what is read at once."""

LIVE: Final = "live.jsonl"
"""File of the sessions that were live at the last checkpoint."""


class SpoolInUse(ConfigError):
    """Error for a spool that another server uses."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: its sessions, and the number of lines that are damaged."""

    path: Path
    lines: tuple[bytes, ...]
    damaged: int


class Spool:
    """Sessions in the order of their end, in at most `max_bytes` on disk."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock: IO[bytes] | None = None
        self._sizes: dict[Path, int] = {}
        """Bytes of each file, oldest first."""
        self._counts: dict[Path, int] = {}
        """Lines of each file."""
        self._next = 0
        self._current: Path | None = None
        """File that gets the next line."""

    def open(self) -> None:
        """Lock the folder, and take over what an earlier process left.

        Raises `SpoolInUse` if another server uses the folder, and `ConfigError` if it cannot be
        written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._folder / "lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for partial in self._folder.glob("*.part"):
                partial.unlink()
            for path in sorted(self._folder.glob("[0-9]*.jsonl")):
                self._sizes[path] = path.stat().st_size
                self._counts[path] = path.read_bytes().count(b"\n")
                self._next = int(path.stem) + 1
            live = self._folder / LIVE
            if live.exists():
                # After those that ended: a session that is in both is kept as it ended.
                self.append(_read(live).lines)
                live.unlink()
        except BlockingIOError:
            self.close()
            raise SpoolInUse(
                f"history.spool: another server uses {self._folder}; give each its own folder"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"history.spool: cannot use {self._folder}: {error}; name a folder that the "
                "server may write, on a disk that is not full"
            ) from None

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __len__(self) -> int:
        """Return the number of sessions that wait."""
        return sum(list(self._counts.values()))  # another thread may ask

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    def append(self, lines: Sequence[bytes]) -> int:
        """Write sessions; they are on the disk when it returns.

        Return the number of older sessions that were dropped for them. Raises OSError; then none of
        `lines` was written.
        """
        if not lines:
            return 0
        data = b"".join(map(_framed, lines))
        path = self._current
        new = path is None or path not in self._sizes or self._sizes[path] >= SEGMENT_BYTES
        if path is None or new:
            path = self._folder / f"{self._next:012d}.jsonl"
            self._next += 1
            self._sizes[path] = self._counts[path] = 0
            self._current = path
        try:
            _append(path, data)
        except OSError:
            self._undo(path)
            raise
        if new:
            sync(self._folder)
        self._sizes[path] += len(data)
        self._counts[path] += len(lines)
        return self._drop_oldest()

    def _undo(self, path: Path) -> None:
        """Cut off what a failed write left, so that nothing is written twice."""
        self._current = None
        with contextlib.suppress(OSError):
            if self._sizes[path]:
                os.truncate(path, self._sizes[path])
            else:
                path.unlink(missing_ok=True)
        if not self._sizes[path]:
            del self._sizes[path], self._counts[path]

    def _drop_oldest(self) -> int:
        dropped = 0
        while self.size > self._max_bytes and len(self._sizes) > 1:
            dropped += self._forget(next(iter(self._sizes)))
        return dropped

    def _forget(self, path: Path) -> int:
        path.unlink(missing_ok=True)
        del self._sizes[path]
        return self._counts.pop(path)

    def oldest(self) -> Segment | None:
        """Return the oldest file, which gets no more lines; None if no session waits."""
        path = next(iter(self._sizes), None)
        if path is None:
            return None
        if path == self._current:
            self._current = None
        try:
            return _read(path)
        except FileNotFoundError:
            return Segment(path, (), self._counts[path])

    def remove(self, segment: Segment) -> None:
        """Delete a file whose sessions are in the database."""
        if segment.path in self._sizes:
            self._forget(segment.path)

    def erase(self, is_erased: Callable[[bytes], bool]) -> int:
        """Rewrite the files without some sessions; return the number of these.

        Copies of live sessions are not counted.
        """
        erased = 0
        live = self._folder / LIVE
        with contextlib.suppress(FileNotFoundError):
            kept = [line for line in _read(live).lines if not is_erased(line)]
            _replace(live, kept)
        for path in [*self._sizes]:
            with contextlib.suppress(FileNotFoundError):
                erased += self._erase_from(path, is_erased)
        return erased

    def _erase_from(self, path: Path, is_erased: Callable[[bytes], bool]) -> int:
        segment = _read(path)
        kept = [line for line in segment.lines if not is_erased(line)]
        gone = len(segment.lines) - len(kept)
        if not gone:
            return 0
        size = _replace(path, kept)
        if kept:
            self._sizes[path], self._counts[path] = size, len(kept)
        else:
            self._forget(path)
        return gone

    def checkpoint(self, lines: Iterable[bytes]) -> None:
        """Replace the file of the sessions that are live, whole or not at all. Raises OSError."""
        lines = list(lines)
        path = self._folder / LIVE
        if lines:
            _write(path, lines)
        else:
            path.unlink(missing_ok=True)


def _framed(line: bytes) -> bytes:
    return b"%08x %08x %b\n" % (len(line), crc32(line), line)


def _unframed(line: bytes) -> bytes | None:
    """Return the JSON of a line; None if it is damaged."""
    data = line[18:]
    try:
        whole = int(line[:8], 16) == len(data) and int(line[9:17], 16) == crc32(data)
    except ValueError:
        return None
    return data if whole else None


def _read(path: Path) -> Segment:
    lines = [_unframed(line) for line in path.read_bytes().split(b"\n") if line]
    whole = tuple(line for line in lines if line is not None)
    return Segment(path, whole, len(lines) - len(whole))


def _append(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, lines: Iterable[bytes]) -> int:
    """Write a file that is whole or absent, whenever the process is killed; return its bytes."""
    partial = path.with_suffix(".part")
    partial.unlink(missing_ok=True)
    _append(partial, b"".join(map(_framed, lines)))
    partial.replace(path)
    sync(path.parent)
    return path.stat().st_size


def _replace(path: Path, lines: Sequence[bytes]) -> int:
    """Write a file anew, or delete it; its old blocks must not keep what was erased."""
    size = 0
    with path.open("r+b") as old:
        if lines:
            size = _write(path, lines)
        else:
            path.unlink()
        old.write(b"\n" * os.fstat(old.fileno()).st_size)
        old.flush()
        os.fsync(old.fileno())
    return size
