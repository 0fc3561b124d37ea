"""Outbox of one webhook on disk: messages that wait, and the open alerts. Blocking; one thread."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

from stream.sinks.webhook_message import Delivery, interrupted

MAX_MESSAGES, MAX_BYTES = 10_000, 64 * 2**20
"""Bounds of one outbox; beyond them the oldest message is dropped."""

MAX_OPEN = 10_000
"""Open alerts that are remembered for the case that the process is killed."""


class DiskOutbox:
    """Messages in the order of their writing, each in a file that outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = folder / "open"
        self._waiting: deque[tuple[Path, int]] = deque()
        self._bytes = 0
        self._number = 0
        self._known: set[str] = set()
        """Ids of the open alerts."""

    def load(self, now: str) -> int:
        """Take over what an earlier process left; return the number of messages that wait.

        Alerts that were open get an end. `now` is an RFC 3339 time. Raises OSError.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open.mkdir(mode=0o700, exist_ok=True)
        for partial in (*self._folder.glob("*.part"), *self._open.glob("*.part")):
            partial.unlink()
        self._waiting.clear()
        for path in sorted(self._folder.glob("*.msg")):
            self._waiting.append((path, path.stat().st_size))
            self._number = int(path.name.partition("-")[0]) + 1
        self._bytes = sum(size for _, size in self._waiting)
        for path in sorted(self._open.glob("*.msg")):
            self._append(interrupted(_read(path), now))
            path.unlink()
        return len(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, message: Delivery, alert_id: str, state: str) -> int:
        """Write a message; return the number of old ones dropped for it. Raises OSError."""
        dropped = self._append(message)
        path = self._open / f"{alert_id}.msg"
        if state == "end":
            self._known.discard(alert_id)
            path.unlink(missing_ok=True)
        elif len(self._known) < MAX_OPEN or alert_id in self._known:
            self._known.add(alert_id)
            _write(path, message)
        return dropped

    def _append(self, message: Delivery) -> int:
        path = self._folder / f"{self._number:020d}-{message.id}.msg"
        self._number += 1
        _write(path, message)
        self._waiting.append((path, len(message.body)))
        self._bytes += len(message.body)
        dropped = 0
        while len(self._waiting) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            self._drop()
            dropped += 1
        return dropped

    def first(self) -> Delivery | None:
        """Return the oldest message; None if none waits. A file that is gone is skipped."""
        while self._waiting:
            try:
                return _read(self._waiting[0][0])
            except FileNotFoundError:
                self._drop()
        return None

    def remove(self, message: Delivery) -> None:
        """Delete a message that was delivered or refused, unless it was dropped meanwhile."""
        if self._waiting and self._waiting[0][0].name.endswith(f"-{message.id}.msg"):
            self._drop()

    def _drop(self) -> None:
        path, size = self._waiting.popleft()
        self._bytes -= size
        path.unlink(missing_ok=True)


def _write(path: Path, message: Delivery) -> None:
    """Write a file that is whole or absent, whenever the process is killed."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(message.id.encode() + b"\n" + message.body)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Delivery:
    name, _, body = path.read_bytes().partition(b"\n")
    return Delivery(name.decode(), body)
