"""Store of results: unique folders, unguessable ids, expiry."""

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

from stream.result_files import NAMES, new_folder

log = logging.getLogger(__name__)

MARKER = ".emotide"
"""File in each folder that the store may delete: locked while pending, then the result's record."""

ID = re.compile(r"[A-Za-z0-9_-]{32}")

RECORD = ("id", "expires", "title", "names", "owner", "recording")
"""Fields of a result in its marker."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A complete result. `title` is the base name of its downloads, `expires` Unix time.

    `owner` is the `Principal.owner` that sent the recording; "" if no key was required.
    `recording` is the id of the recording, "" if it is older than that.
    """

    id: str
    folder: Path
    title: str
    expires: float
    names: tuple[str, ...]
    owner: str = ""
    recording: str = ""


@dataclass(slots=True)
class PendingResult:
    """A folder that is being written. Its lock keeps other processes from deleting it."""

    folder: Path
    lock: IO[bytes] = field(repr=False)


class ResultStore:
    """Results in one folder, which several processes may share. Its methods block for disk I/O."""

    def __init__(self, root: Path, keep_s: float) -> None:
        self._root = root
        self._keep_s = keep_s
        self._results: dict[str, StoredResult] = {}

    def begin(self) -> PendingResult:
        """Create the folder of a result. Raises `OSError`."""
        folder = new_folder(self._root, time.time())
        try:
            unmarked = folder / (MARKER + ".new")
            lock = unmarked.open("w+b")
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Locked before it gets its name, so that no process takes it for an abandoned one.
            unmarked.rename(folder / MARKER)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return PendingResult(folder, lock)

    def publish(
        self,
        pending: PendingResult,
        names: list[str],
        title: str,
        owner: str = "",
        recording: str = "",
    ) -> StoredResult:
        """Give a complete result an id, an owner and an expiry. Raises `OSError`."""
        expires = time.time() + self._keep_s
        result = StoredResult(
            secrets.token_urlsafe(24),
            pending.folder,
            title,
            expires,
            tuple(names),
            owner,
            recording,
        )
        record = {name: getattr(result, name) for name in RECORD}
        pending.lock.write(orjson.dumps(record))
        pending.lock.close()
        self._results[result.id] = result
        return result

    def discard(self, pending: PendingResult) -> None:
        """Remove the folder of a cancelled recording, even if it was already published."""
        self._results = {
            key: result for key, result in self._results.items() if result.folder != pending.folder
        }
        shutil.rmtree(pending.folder, ignore_errors=True)
        with suppress(OSError):
            pending.lock.close()

    def find(self, result_id: str, name: str) -> tuple[StoredResult, Path] | None:
        """Return a result and the path of its file `name`; None if unknown or expired.

        Only published names are found.
        """
        result = self._results.get(result_id)
        if result is None or name not in result.names or result.expires <= time.time():
            return None
        return result, result.folder / name

    def find_recording(self, recording: str) -> StoredResult | None:
        """Return the result of a recording; None if unknown or expired."""
        now = time.time()
        found = (r for r in self._results.values() if r.recording == recording and r.expires > now)
        return next(found, None) if recording else None

    def sweep(self) -> None:
        """Delete expired and abandoned results; re-register valid ones of earlier processes."""
        now = time.time()
        for result in [result for result in self._results.values() if result.expires <= now]:
            del self._results[result.id]
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._root)):
                if entry.name.startswith("outputs_") and entry.is_dir(follow_symlinks=False):
                    self._sweep_folder(Path(entry.path), now)

    def _sweep_folder(self, folder: Path, now: float) -> None:
        try:
            # A folder without the marker was not created by the store, so it is not deleted.
            marker = os.fdopen(os.open(folder / MARKER, os.O_RDWR | os.O_NOFOLLOW), "rb")
        except OSError:
            return
        with marker:
            try:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # pending
            record = _record(marker.read())
            if record is None or record["expires"] <= now:
                shutil.rmtree(folder, ignore_errors=True)
                log.info("result deleted", extra={"folder": folder.name})
            elif record["id"] not in self._results:
                self._results[record["id"]] = StoredResult(
                    record["id"],
                    folder,
                    record["title"],
                    record["expires"],
                    tuple(record["names"]),
                    record["owner"],
                    record.get("recording", ""),
                )


def _record(content: bytes) -> dict[str, Any] | None:
    """Parse the record of a marker; None if it is incomplete or invalid."""
    try:
        record = orjson.loads(content)
        valid = (
            ID.fullmatch(record["id"]) is not None
            and isinstance(record["expires"], float)
            and isinstance(record["title"], str)
            and isinstance(record["owner"], str)
            and isinstance(record.get("recording", ""), str)
            and set(record["names"]) <= set(NAMES)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if valid else None
