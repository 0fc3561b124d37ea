"""Who analysed and who listened, as JSON lines. Never audio, never scores."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import Any

import orjson

from stream.errors import ConfigError
from stream.types import timestamp

log = logging.getLogger(__name__)


class AuditLog:
    """Appends records from one writer thread, so that a slow disk never delays a stream.

    A disk that is full or gone is told once in the log and never stops analysis. Raises
    `ConfigError` when the file cannot be opened at the start.
    """

    def __init__(self, path: Path | None, bound: int = 10_000) -> None:
        self._records: Queue[bytes | None] = Queue(bound)
        self._failing = False
        self._thread: threading.Thread | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o640)
        except OSError as error:
            raise ConfigError(f"privacy.audit_log: cannot write {path}: {error}") from None
        self._thread = threading.Thread(
            target=self._write, args=(path,), name="emotide-audit", daemon=True
        )
        self._thread.start()

    def record(self, what: str, **details: Any) -> None:
        """Note something that happened now."""
        if self._thread is None:
            return
        line = orjson.dumps({"ts": timestamp(time.time()), "event": what, **details}) + b"\n"
        try:
            self._records.put_nowait(line)
        except Full:
            self._complain("the queue is full")

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits and end."""
        if self._thread is not None:
            with suppress(Full):
                self._records.put(None, timeout=timeout_s / 2)
            self._thread.join(timeout_s / 2)

    def _write(self, path: Path) -> None:
        while (line := self._records.get()) is not None:
            try:
                with path.open("ab") as file:
                    file.write(line)
                self._failing = False
            except OSError as error:
                self._complain(str(error))

    def _complain(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            log.error("audit log: records are lost", extra={"reason": reason})


def masked(patterns: Sequence[str]) -> list[str]:
    """Globs as the log may hold them: ids may be telephone numbers, so only "*" is kept."""
    digest = (hashlib.blake2b(p.encode(), digest_size=8).hexdigest() for p in patterns)
    return [p if p == "*" else f"hash:{d}" for p, d in zip(patterns, digest, strict=True)]
