"""Where results lie: folders that are unique, ids that nobody guesses, an end to every one."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from stream.recordings.writer import NAMES, new_folder

log = logging.getLogger(__name__)

MARKER = ".emotide"
"""A file in every folder that is ours to delete: locked while it is written, then its record."""

ID = re.compile(r"[A-Za-z0-9_-]{32}")


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A finished result. `title` is what its downloads are named after.

    `owner` is the name of the key that sent the recording; "" where no key was wanted.
    """

    id: str
    folder: Path
    title: str
    expires: float
    names: tuple[str, ...]
    owner: str = ""


@dataclass(slots=True)
class PendingResult:
    """A folder that is being written; its lock says so to other processes."""

    folder: Path
    lock: IO[bytes] = field(repr=False)


class ResultStore:
    """The results of one folder, which several processes may share. Blocking, but small."""

    def __init__(self, root: Path, keep_s: float) -> None:
        self._root = root
        self._keep_s = keep_s
        self._kept: dict[str, StoredResult] = {}

    def begin(self) -> PendingResult:
        """A folder for one result. Raises `OSError`."""
        folder = new_folder(self._root, time.time())
        try:
            unmarked = folder / (MARKER + ".new")
            lock = unmarked.open("w+b")
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Locked before it has its name: nobody takes it for a leftover.
            unmarked.rename(folder / MARKER)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return PendingResult(folder, lock)

    def publish(
        self, draft: PendingResult, names: list[str], title: str, owner: str = ""
    ) -> StoredResult:
        """The result is whole: give it an id, an owner and an end. Raises `OSError`."""
        expires = time.time() + self._keep_s
        kept = StoredResult(
            secrets.token_urlsafe(24), draft.folder, title, expires, tuple(names), owner
        )
        record = {
            name: getattr(kept, name) for name in ("id", "expires", "title", "names", "owner")
        }
        draft.lock.write(orjson.dumps(record))
        draft.lock.close()
        self._kept[kept.id] = kept
        return kept

    def discard(self, draft: PendingResult) -> None:
        """Remove a folder that will not become a result, even if it was one for a moment."""
        self._kept = {i: kept for i, kept in self._kept.items() if kept.folder != draft.folder}
        shutil.rmtree(draft.folder, ignore_errors=True)
        with suppress(OSError):
            draft.lock.close()

    def find(self, result_id: str, name: str) -> tuple[StoredResult, Path] | None:
        """A file of a result that has not expired; only names that were published are files."""
        kept = self._kept.get(result_id)
        if kept is None or name not in kept.names or kept.expires <= time.time():
            return None
        return kept, kept.folder / name

    def sweep(self) -> None:
        """Delete what is over, and what a process left half-written; take up what still holds."""
        now = time.time()
        for kept in [kept for kept in self._kept.values() if kept.expires <= now]:
            del self._kept[kept.id]
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._root)):
                if entry.name.startswith("outputs_") and entry.is_dir(follow_symlinks=False):
                    self._look_after(Path(entry.path), now)

    def _look_after(self, folder: Path, now: float) -> None:
        try:
            # Ours alone: a folder without the marker is somebody else's.
            marker = os.fdopen(os.open(folder / MARKER, os.O_RDWR | os.O_NOFOLLOW), "rb")
        except OSError:
            return
        with marker:
            try:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # being written
            record = _record(marker.read())
            if record is None or record["expires"] <= now:
                shutil.rmtree(folder, ignore_errors=True)
                log.info("a result was deleted", extra={"folder": folder.name})
            elif record["id"] not in self._kept:
                self._kept[record["id"]] = StoredResult(
                    record["id"],
                    folder,
                    record["title"],
                    record["expires"],
                    tuple(record["names"]),
                    record["owner"],
                )


def _record(content: bytes) -> dict[str, Any] | None:
    """A marker's record; None for one that is not whole."""
    try:
        record = orjson.loads(content)
        # Results had no owner before 2026-11-27: whoever has the address has the right.
        record.setdefault("owner", "")
        whole = (
            ID.fullmatch(record["id"]) is not None
            and isinstance(record["expires"], float)
            and isinstance(record["title"], str)
            and isinstance(record["owner"], str)
            and set(record["names"]) <= set(NAMES)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None
