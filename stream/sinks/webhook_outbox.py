"""Outbox of one webhook on disk: messages that wait, and the open alerts.

What touches the disk blocks and is for one thread; `peek`, `pop` and `len` are for the event loop.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.durable import sync
from stream.sinks.webhook_message import Delivery, interrupted

MAX_MESSAGES, MAX_BYTES = 10_000, 64 * 2**20
"""Bounds of one outbox; beyond them the oldest message is dropped."""

MAX_KEPT = 2 * 2**20
"""Bytes of messages that are also kept in memory; those beyond are read again from the disk."""

MAX_OPEN = 10_000
"""Open alerts that are remembered for the case that the process is killed."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message with the id and the state of its alert."""

    delivery: Delivery
    alert_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome of a commit: old messages dropped for new ones, and new ones not written."""

    dropped: int
    unwritten: int
    error: OSError | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    path: Path
    size: int
    message: Delivery | None


class DiskOutbox:
    """Messages in the order of their writing, each in a file that outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = folder / "open"
        self._lock = threading.Lock()
        """Guards the four below, between the disk's thread and the event loop."""
        self._waiting: deque[_Waiting] = deque()
        self._bytes = self._kept = 0
        self._gone: list[Path] = []
        """Files of messages that no longer wait, to be deleted by the next commit."""
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
        with self._lock:
            self._waiting.clear()
            self._bytes = self._kept = 0
        for path in sorted(self._folder.glob("*.msg")):
            self._add(_Waiting(path, path.stat().st_size, None))
            self._number = int(path.name.partition("-")[0]) + 1
        for path in sorted(self._open.glob("*.msg")):
            self._write(interrupted(_read(path), now))
            path.unlink()
        sync(self._folder)
        return len(self)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_stale(self) -> bool:
        """True while there are files of messages that no longer wait."""
        return bool(self._gone)

    def commit(self, messages: Sequence[NewMessage] = ()) -> Committed:
        """Write messages, and delete those that no longer wait.

        All are on the disk when it returns, and none can be taken before. One that cannot be
        written is left out.
        """
        with self._lock:
            gone, self._gone = self._gone, []
        for path in gone:
            path.unlink(missing_ok=True)
        written, error = list[_Waiting](), None
        for message in messages:
            try:
                written.append(self._write(message.delivery, wait=False))
                self._note(message)
            except OSError as failure:
                error = failure
        if written:
            # Once for all of them: a message needs its own data on the disk, and its name.
            sync(self._folder)
        for waiting in written:
            self._add(waiting)
        dropped = 0
        while len(self._waiting) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            self._drop().unlink(missing_ok=True)
            dropped += 1
        return Committed(dropped, len(messages) - len(written), error)

    def _note(self, message: NewMessage) -> None:
        """Remember an open alert. A crash of the machine, not of the process, may lose that."""
        path = self._open / f"{message.alert_id}.msg"
        if message.state == "end":
            self._known.discard(message.alert_id)
            path.unlink(missing_ok=True)
        elif len(self._known) < MAX_OPEN or message.alert_id in self._known:
            self._known.add(message.alert_id)
            _write(path, message.delivery, durable=False)

    def _write(self, message: Delivery, wait: bool = True) -> _Waiting:
        path = self._folder / f"{self._number:020d}-{message.id}.msg"
        self._number += 1
        _write(path, message, durable=True)
        waiting = _Waiting(path, len(message.body), message)
        if wait:
            self._add(waiting)
        return waiting

    def _add(self, waiting: _Waiting) -> None:
        with self._lock:
            self._bytes += waiting.size
            if waiting.message is not None:
                if self._kept + waiting.size > MAX_KEPT:
                    waiting = _Waiting(waiting.path, waiting.size, None)
                else:
                    self._kept += waiting.size
            self._waiting.append(waiting)

    def peek(self) -> Delivery | None:
        """Return the oldest message if it is in memory; None otherwise."""
        with self._lock:
            return self._waiting[0].message if self._waiting else None

    def first(self) -> Delivery | None:
        """Return the oldest message; None if none waits. A file that is gone is skipped."""
        while True:
            with self._lock:
                oldest = self._waiting[0] if self._waiting else None
            if oldest is None:
                return None
            if oldest.message is not None:
                return oldest.message
            try:
                return _read(oldest.path)
            except FileNotFoundError:
                self._drop()

    def pop(self, message: Delivery) -> None:
        """Remove a message that was delivered or refused, unless it was dropped meanwhile.

        The next `commit` deletes its file.
        """
        with self._lock:
            if not self._waiting or not self._waiting[0].path.name.endswith(f"-{message.id}.msg"):
                return
        path = self._drop()
        with self._lock:
            self._gone.append(path)

    def _drop(self) -> Path:
        with self._lock:
            oldest = self._waiting.popleft()
            self._bytes -= oldest.size
            if oldest.message is not None:
                self._kept -= oldest.size
            return oldest.path


def _write(path: Path, message: Delivery, *, durable: bool) -> None:
    """Write a file that is whole or absent, whenever the process is killed."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(message.id.encode() + b"\n" + message.body)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)


def _read(path: Path) -> Delivery:
    name, _, body = path.read_bytes().partition(b"\n")
    return Delivery(name.decode(), body)
