"""Retention: deletes the sessions whose time is over, every hour, a batch at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

import sqlalchemy as sa

from stream.config import HistoryConfig
from stream.history.storage import erasure

log = logging.getLogger(__name__)

INTERVAL_S: Final = 3_600.0
"""Seconds between two runs."""

OnExpired = Callable[[str, int], None]
"""Receives a tenant and the number of its sessions that were deleted."""


class Retention:
    """Runs in steps, so that the writer has its turn after each batch."""

    def __init__(self, engine: sa.Engine, config: HistoryConfig, on_expired: OnExpired) -> None:
        self._engine = engine
        self._config = config
        self._on_expired = on_expired
        self._next_run = 0.0
        self._batches: Iterator[tuple[str, int]] | None = None
        self._deleted: dict[str, int] = {}

    def step(self) -> bool:
        """Delete one batch, if it is time; return whether there may be more.

        Raises `sqlalchemy.exc.SQLAlchemyError`; the next step begins again.
        """
        try:
            if self._batches is None:
                if time.monotonic() < self._next_run:
                    return False
                days = {name: self._config.days(name) for name in erasure.tenants(self._engine)}
                self._batches = erasure.expire(self._engine, days, time.time())
            tenant, sessions = next(self._batches, ("", 0))
        except sa.exc.SQLAlchemyError:
            self._batches = None
            raise
        if sessions:
            self._deleted[tenant] = self._deleted.get(tenant, 0) + sessions
            return True
        self._batches, self._next_run = None, time.monotonic() + INTERVAL_S
        deleted, self._deleted = self._deleted, {}
        for tenant, sessions in deleted.items():
            log.info("sessions expired", extra={"tenant": tenant, "sessions": sessions})
            self._on_expired(tenant, sessions)
        return False
