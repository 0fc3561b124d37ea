"""Writer of finished sessions: queue, spool, database; in one thread, so that no stream waits."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import sqlalchemy as sa

from stream.config import HistoryConfig
from stream.errors import ConfigError
from stream.history import erasure
from stream.history.database import upgrade, writing
from stream.history.erasure import Erasure
from stream.history.identity import Identities
from stream.history.record import SessionRecord, decode
from stream.history.spool import Segment, Spool
from stream.history.store import insert

log = logging.getLogger(__name__)

BATCH: Final = 50
"""Sessions that are inserted in one transaction."""

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 15.0
"""Shortest and longest wait before the database is tried again; each is twice the one before."""

POLL_S: Final = 5.0
"""Seconds between two looks at what other servers, or the command line, erased."""

EXPIRE_S: Final = 3_600.0
"""Seconds between two deletions of sessions whose time is over."""

LOG_S: Final = 60.0
"""Shortest time between two log records of lost sessions with the same reason."""

MAX_ERASURES: Final = 100_000
"""Erasures of this process that are compared with live streams."""

Outcome = Literal["written", "dropped", "refused", "erased"]

Count = Callable[[Outcome, int], None]
"""Receives an outcome and a number of sessions."""


class Writer:
    """Brings each session that is `put` into the database once, whatever fails meanwhile.

    A session is on disk, in the spool, before it goes to the database, and leaves the spool after
    that; the database knows its id, so that a second attempt changes nothing.
    """

    def __init__(
        self,
        engine: sa.Engine,
        config: HistoryConfig,
        identities: Identities,
        count: Count,
        on_expired: Callable[[str, int], None] = lambda tenant, sessions: None,
    ) -> None:
        """`on_expired` gets a tenant and the number of its sessions whose time was over."""
        self._engine = engine
        self._config = config
        self._identities = identities
        self._count = count
        self._on_expired = on_expired
        self._spool = Spool(config.spool, round(config.spool_mb * 1e6))
        self._files = threading.Lock()
        """Guards the spool."""
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lock = threading.Lock()
        """Guards the queue and the erasures; held for moments."""
        self._live: list[bytes] | None = None
        """Live sessions for the next checkpoint."""
        self._erased: dict[str, int] = {}
        self._last_erasure = 0
        self._wake = threading.Event()
        self._stopping = False
        self._migrated = False
        self._away_since: float | None = None
        self._retry_s = FIRST_RETRY_S
        self._retry_at = self._poll_at = self._expire_at = 0.0
        self._expiry: Iterator[tuple[str, int]] | None = None
        self._expired: dict[str, int] = {}
        self._disk_failed = False
        self._next_log: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="emotide-history", daemon=True)

    # -- for the event loop ------------------------------------------------------------------

    def put(self, session: bytes) -> None:
        """Queue a finished session (see `record.encode`); never block.

        Beyond `history.queue_mb` it is dropped, and counted.
        """
        with self._lock:
            room = self._queued_bytes + len(session) <= self._config.queue_mb * 1e6
            if room:
                self._queue.append(session)
                self._queued_bytes += len(session)
        if not room:
            self._lost(1, "the queue is full")
        self._wake.set()

    def checkpoint(self, sessions: list[bytes]) -> None:
        """Replace the copies of the sessions that are live; never block."""
        self._live = sessions
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Number of finished sessions that are not in the database."""
        return len(self._queue) + len(self._spool)

    # -- life cycle, for any thread that may wait ----------------------------------------------

    def open(self) -> None:
        """Take over the spool and migrate the database; start the thread.

        Raises `ConfigError`. A database that is away is not an error: sessions wait for it.
        """
        self._spool.open()
        try:
            self._migrate()
        except sa.exc.SQLAlchemyError as error:
            self._went_away(error)
        if len(self._spool):
            log.info("sessions of an earlier process found", extra={"sessions": len(self._spool)})
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what waits, to the database or at least to the spool, and end the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        with self._files:
            self._to_spool()
            if not self._thread.is_alive():
                self._spool.close()
        self._engine.dispose()

    def forget(self, erasures: Iterable[Erasure]) -> int:
        """Drop erased sessions that wait; return their number. Live ones are dropped as they end.

        The rows of the table `erasures` are committed before.
        """
        with self._lock:
            for each in erasures:
                self._erased[each.digest] = max(each.before_ms, self._erased.get(each.digest, 0))
            while len(self._erased) > MAX_ERASURES:
                del self._erased[next(iter(self._erased))]
            gone = [session for session in self._queue if self._is_erased(session)]
        self._unqueue(gone)
        with self._files:
            erased = len(gone) + self._spool.erase(self._is_erased)
        if erased:
            self._count("erased", erased)
        return erased

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            stopping = self._stopping  # before: what is queued by then is written
            try:
                busy = self._step()
            except Exception:
                log.exception("history writer failed")
                busy = False
                time.sleep(FIRST_RETRY_S)
            if stopping and not (busy and self._away_since is None):
                return
            if not busy:
                self._wake.wait(min(1.0, self._retry_s))
                self._wake.clear()

    def _step(self) -> bool:
        """Do one piece of what is to be done; return whether there may be more."""
        with self._files:
            self._to_spool()
            self._write_checkpoint()
        if self._away_since is not None and time.monotonic() < self._retry_at:
            return False
        try:
            self._migrate()
            self._learn_erasures()
            with self._files:
                segment = self._spool.oldest()
            if segment is not None:
                self._insert(segment)
            elif self._disk_failed:
                self._insert_queue()
            self._came_back()
            return segment is not None or self._expire()
        except sa.exc.SQLAlchemyError as error:
            self._went_away(error)
        except ConfigError as error:
            self._went_away(error)
        return False

    def _migrate(self) -> None:
        if not self._migrated:
            upgrade(self._engine)
            self._last_erasure = erasure.last_erasure(self._engine)
            self._migrated = True

    def _to_spool(self) -> None:
        """Move the queue to the disk; what cannot be written stays in the queue."""
        with self._lock:
            sessions = [*self._queue]
        if not sessions:
            return
        try:
            dropped = self._spool.append(sessions)
        except OSError as error:
            if not self._disk_failed:
                self._disk_failed = True
                log.error(
                    "history spool not written; sessions wait in memory",
                    extra={"folder": str(self._config.spool), "reason": str(error)},
                )
            return
        self._disk_failed = False
        self._unqueue(sessions)
        if dropped:
            self._lost(dropped, "the spool is full")

    def _unqueue(self, sessions: Iterable[bytes]) -> None:
        """Remove sessions from the queue, unless another thread did."""
        gone = set(map(id, sessions))
        with self._lock:
            self._queue = deque(session for session in self._queue if id(session) not in gone)
            self._queued_bytes = sum(map(len, self._queue))

    def _write_checkpoint(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        try:
            self._spool.checkpoint(session for session in live if not self._is_erased(session))
        except OSError as error:
            if not self._disk_failed:
                log.error("history checkpoint not written", extra={"reason": str(error)})

    def _insert(self, segment: Segment) -> None:
        """Insert the sessions of a file, then delete it."""
        if segment.damaged:
            self._lost(segment.damaged, "damaged in the spool", "refused")
        self._insert_all(segment.lines)
        with self._files:
            self._spool.remove(segment)

    def _insert_queue(self) -> None:
        """Insert what cannot be written to the spool."""
        with self._lock:
            sessions = [*self._queue][:BATCH]
        self._insert_all(sessions)
        self._unqueue(sessions)

    def _insert_all(self, lines: Sequence[bytes]) -> None:
        for begin in range(0, len(lines), BATCH):
            records = []
            for line in lines[begin : begin + BATCH]:
                try:
                    records.append(decode(line))
                except ValueError as error:
                    self._lost(1, str(error), "refused")
            self._insert_batch(records)

    def _insert_batch(self, records: Sequence[SessionRecord]) -> None:
        if not records:
            return
        try:
            with writing(self._engine) as connection:
                done = insert(connection, records, self._identities)
        except (sa.exc.DataError, sa.exc.IntegrityError) as error:
            # One of them is the reason; the others must not wait for it for ever.
            if len(records) == 1:
                self._lost(1, str(error.orig), "refused")
                return
            for record in records:
                self._insert_batch([record])
            return
        if done.written:
            self._count("written", done.written)
        if done.erased:
            self._count("erased", done.erased)

    def _learn_erasures(self) -> None:
        """Look at what was erased elsewhere: it must leave this spool as well."""
        now = time.monotonic()
        if now < self._poll_at:
            return
        self._last_erasure, found = erasure.erasures_since(self._engine, self._last_erasure)
        self._poll_at = now + POLL_S
        if found:
            self.forget(found)

    def _expire(self) -> bool:
        """Delete one batch of the sessions whose time is over; return whether there may be more."""
        if self._stopping:
            return False
        now = time.monotonic()
        if self._expiry is None and now >= self._expire_at:
            self._expire_at = now + EXPIRE_S
            days = {name: self._config.days(name) for name in erasure.tenants(self._engine)}
            self._expiry = erasure.expire(self._engine, days, time.time())
        if self._expiry is None:
            return False
        try:
            tenant, deleted = next(self._expiry, ("", 0))
        except sa.exc.SQLAlchemyError:
            self._expiry = None
            raise
        if deleted:
            self._expired[tenant] = self._expired.get(tenant, 0) + deleted
            return True
        for tenant, sessions in self._expired.items():
            log.info("sessions expired", extra={"tenant": tenant, "sessions": sessions})
            self._on_expired(tenant, sessions)
        self._expiry, self._expired = None, {}
        return False

    def _is_erased(self, session: bytes) -> bool:
        return self._identities.is_erased(session, self._erased)

    # -- reports -------------------------------------------------------------------------------

    def _went_away(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._retry_s = now, FIRST_RETRY_S
            reason = str(getattr(error, "orig", None) or error).strip()
            log.warning(
                "history database not available; sessions wait in the spool",
                extra={"folder": str(self._config.spool), "reason": reason},
            )
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _came_back(self) -> None:
        if self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since)
            self._away_since, self._retry_s = None, FIRST_RETRY_S
            log.info(
                "history database available again",
                extra={"seconds": seconds, "waiting": self.waiting},
            )

    def _lost(self, sessions: int, reason: str, outcome: Outcome = "dropped") -> None:
        """Count sessions; log the first ones, then at most once a minute for each reason."""
        self._count(outcome, sessions)
        now = time.monotonic()
        if now >= self._next_log.get(reason, 0.0):
            self._next_log = {**dict(list(self._next_log.items())[-9:]), reason: now + LOG_S}
            log.error("sessions not kept", extra={"sessions": sessions, "reason": reason})
