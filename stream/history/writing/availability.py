"""Availability of the database: when to try again, and one log record per outage."""

from __future__ import annotations

import logging
import time
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 15.0
"""Shortest and longest wait before the database is tried again; each is twice the one before."""


class Availability:
    """State of the database as the writer finds it. `spool` is named in the log."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._since: float | None = None
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0

    @property
    def is_down(self) -> bool:
        return self._since is not None

    @property
    def is_due(self) -> bool:
        """True if the database is there, or should be tried again."""
        return not self.is_down or time.monotonic() >= self._retry_at

    def failed(self, error: Exception) -> None:
        """Report that the database cannot be used."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._retry_s = now, FIRST_RETRY_S
            reason = str(getattr(error, "orig", None) or error).strip()
            log.warning(
                "history database not available; sessions wait in the spool",
                extra={"folder": str(self._spool), "reason": reason},
            )
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def worked(self, waiting: int) -> None:
        """Report that the database works; `waiting` is the number of sessions still to write."""
        if self._since is not None:
            seconds = round(time.monotonic() - self._since)
            self._since = None
            log.info(
                "history database available again", extra={"seconds": seconds, "waiting": waiting}
            )
