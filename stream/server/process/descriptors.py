"""File descriptors: raise the process's limit, and keep the connections below it."""

from __future__ import annotations

import logging
import time
from types import ModuleType

from stream.config import Config

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

log = logging.getLogger(__name__)

ENOUGH = 1_048_576
"""Descriptors that are asked for where the system sets no limit."""

BASE = 64
"""Descriptors of the process itself: libraries, model, sinks, logs, refused connections."""

PER_JOB = 8
"""Descriptors of a recording that is decoded: pipes, upload, results."""

LOG_INTERVAL_S = 60.0


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; return it."""
    if resource is None:
        return ENOUGH
    soft: int
    hard: int
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warning("file descriptor limit not raised", extra={"reason": str(error)})
            return soft
    return wanted if soft != resource.RLIM_INFINITY else ENOUGH


def connection_limit(descriptors: int, config: Config) -> int:
    """Return the number of connections that leave enough descriptors for everything else."""
    files = config.files
    kept = BASE
    if files.enabled:
        kept += files.max_clients + files.max_downloads + files.max_jobs * PER_JOB
    return max(descriptors - kept, descriptors // 4)


class Refusals:
    """Log of refused connections: one record per `LOG_INTERVAL_S`, with their number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._count = 0
        self._next_log = 0.0

    def report(self) -> None:
        """Count a refused connection."""
        self._count += 1
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_INTERVAL_S
            log.warning(
                "connection limit reached: raise the file descriptor limit (LimitNOFILE)",
                extra={"limit": self.limit, "refused": self._count},
            )
            self._count = 0
