"""Audit log: JSON lines of who analysed and who subscribed, without audio and scores."""

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
    """Log file with one writer thread, so that a slow disk never delays a stream.

    Records are lost if the disk fails or the queue is full. That is logged once until a record is
    written again, and it never stops the analysis. Raises `ConfigError` if the file cannot be
    created.
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

    def record(self, event: str, **details: Any) -> None:
        """Queue a record with the current time; never block."""
        if self._thread is None:
            return
        line = orjson.dumps({"ts": timestamp(time.time()), "event": event, **details}) + b"\n"
        try:
            self._records.put_nowait(line)
        except Full:
            self._report_failure("the queue is full")

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the queued records and stop the thread, within `timeout_s` seconds."""
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
                self._report_failure(str(error))

    def _report_failure(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            log.error("audit records lost", extra={"reason": reason})


def masked(patterns: Sequence[str]) -> list[str]:
    """Hash globs for the log: ids may be telephone numbers, so only "*" stays readable."""
    digest = (hashlib.blake2b(p.encode(), digest_size=8).hexdigest() for p in patterns)
    return [p if p == "*" else f"hash:{d}" for p, d in zip(patterns, digest, strict=True)]
