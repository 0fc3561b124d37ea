"""Writer of finished sessions: queue, spool, database; in one thread, so that no stream waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import sqlalchemy as sa

from stream.config import HistoryConfig
from stream.errors import ConfigError
from stream.history.storage import erasure
from stream.history.storage.connect import upgrade, writing
from stream.history.storage.erasure import Erasure
from stream.history.storage.identity import Identities
from stream.history.storage.record import SessionRecord, decode
from stream.history.storage.store import insert
from stream.history.writing.availability import FIRST_RETRY_S, Availability
from stream.history.writing.retention import OnExpired, Retention
from stream.history.writing.session_queue import SessionQueue
from stream.history.writing.spool import Segment, Spool

log = logging.getLogger(__name__)

BATCH: Final = 50
"""Sessions that are inserted in one transaction."""

POLL_S: Final = 5.0
"""Seconds between two queries for what other servers, or the command line, erased."""

IDLE_S: Final = 1.0
"""Seconds after which the thread looks for work without being woken."""

LOG_S: Final = 60.0
"""Shortest time between two log records of lost sessions with the same reason."""

MAX_ERASURES: Final = 100_000
"""Erasures that are kept in memory, to compare sessions with that wait or are live."""

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
        on_expired: OnExpired = lambda tenant, sessions: None,
    ) -> None:
        self._engine = engine
        self._config = config
        self._identities = identities
        self._count = count
        self._queue = SessionQueue(round(config.queue_mb * 1e6))
        self._spool = Spool(config.spool, round(config.spool_mb * 1e6))
        self._files = threading.Lock()
        """Guards the spool."""
        self._database = Availability(config.spool)
        self._retention = Retention(engine, config, on_expired)
        self._live: list[bytes] | None = None
        """Live sessions for the next checkpoint."""
        self._erased: dict[str, int] = {}
        """Erasures by digest; replaced, never changed, because any thread may read it."""
        self._last_erasure = 0
        self._poll_at = 0.0
        self._log_is_stale = False
        """True if SQLite's log may hold what was erased."""
        self._migrated = False
        self._disk_failed = self._checkpoint_failed = False
        self._next_log: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="emotide-history", daemon=True)

    # -- for the event loop ------------------------------------------------------------------

    def put(self, session: bytes) -> None:
        """Queue a finished session (see `record.encode`); never block.

        Beyond `history.queue_mb` it is dropped, and counted.
        """
        if not self._queue.put(session):
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

        Raises `ConfigError`. A database that cannot be reached is no error: sessions wait for it.
        """
        self._spool.open()
        try:
            self._migrate()
        except sa.exc.SQLAlchemyError as error:
            self._database.failed(error)
        if len(self._spool):
            log.info("sessions of an earlier process found", extra={"sessions": len(self._spool)})
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what waits, to the database or at least to the spool, and end the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._files.acquire(timeout=max(0.1, timeout_s)):  # a disk may hang
            try:
                self._to_spool()
                if not self._thread.is_alive():
                    self._spool.close()
            finally:
                self._files.release()
        self._engine.dispose()

    def forget(self, erasures: Iterable[Erasure]) -> int:
        """Drop erased sessions that wait; return their number. Live ones are dropped as they end.

        The rows of the table `erasures` are committed before.
        """
        with self._files:
            known = dict(self._erased)
            for each in erasures:
                known[each.digest] = max(each.before_ms, known.pop(each.digest, 0))
            self._erased = dict([*known.items()][-MAX_ERASURES:])
            erased = self._queue.erase(self._is_erased) + self._spool.erase(self._is_erased)
        if erased:
            self._count("erased", erased)
        return erased

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            stopping = self._stopping  # before: what is queued by then is written
            try:
                busy = self._step()
            except Exception as error:
                if not self._database.is_down:
                    log.exception("history writer failed")
                self._database.failed(error)
                busy = False
            if stopping and not (busy and not self._database.is_down):
                return
            if not busy:
                self._wake.wait(FIRST_RETRY_S if self._database.is_down else IDLE_S)
                self._wake.clear()

    def _step(self) -> bool:
        """Do one piece of what is to be done; return whether there may be more."""
        with self._files:
            self._to_spool()
            self._write_checkpoint()
        if not self._database.is_due:
            return False
        try:
            self._migrate()
            self._learn_erasures()
            busy = self._write() or (not self._stopping and self._retention.step())
        except (sa.exc.SQLAlchemyError, ConfigError) as error:
            self._database.failed(error)
            return False
        self._database.worked(self.waiting)
        return busy

    def _write(self) -> bool:
        """Insert the sessions of one file; return whether there was one."""
        with self._files:
            segment = self._spool.oldest()
        if segment is not None:
            self._insert(segment)
        elif self._disk_failed:
            self._insert_queue()
        return segment is not None

    def _migrate(self) -> None:
        if not self._migrated:
            upgrade(self._engine)
            self._last_erasure = erasure.last_erasure(self._engine)
            self._migrated = True

    def _to_spool(self) -> None:
        """Move the queue to the disk; what cannot be written stays in the queue."""
        sessions = self._queue.all()
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
        self._queue.remove(sessions)
        if dropped:
            self._lost(dropped, "the spool is full")

    def _write_checkpoint(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        try:
            self._spool.checkpoint(session for session in live if not self._is_erased(session))
        except OSError as error:
            if not (self._disk_failed or self._checkpoint_failed):
                log.error("history checkpoint not written", extra={"reason": str(error)})
            self._checkpoint_failed = True
        else:
            self._checkpoint_failed = False

    def _insert(self, segment: Segment) -> None:
        """Insert the sessions of a file, then delete it."""
        refused = ["damaged in the spool"] * segment.damaged + self._insert_all(segment.lines)
        with self._files:
            self._spool.remove(segment)
        self._refused(refused)

    def _insert_queue(self) -> None:
        """Insert what cannot be written to the spool."""
        sessions = self._queue.all()[:BATCH]
        refused = self._insert_all(sessions)
        self._queue.remove(sessions)
        self._refused(refused)

    def _refused(self, reasons: Sequence[str]) -> None:
        # Only now: a file that an outage interrupts is inserted again from its beginning.
        for reason in reasons:
            self._lost(1, reason, "refused")

    def _insert_all(self, lines: Sequence[bytes]) -> list[str]:
        """Insert sessions; return a reason for each that was refused."""
        refused = []
        for begin in range(0, len(lines), BATCH):
            records = []
            for line in lines[begin : begin + BATCH]:
                try:
                    records.append(decode(line))
                except ValueError as error:
                    refused.append(str(error))
            refused += self._insert_batch(records)
        return refused

    def _insert_batch(self, records: Sequence[SessionRecord]) -> list[str]:
        if not records:
            return []
        try:
            with writing(self._engine) as connection:
                done = insert(connection, records, self._identities)
        except (sa.exc.DataError, sa.exc.IntegrityError) as error:
            # One of them is the reason; the others must not wait for it for ever.
            if len(records) == 1:
                return [str(error.orig)]
            return [reason for record in records for reason in self._insert_batch([record])]
        if done.written:
            self._count("written", done.written)
        if done.erased:
            self._count("erased", done.erased)
        return []

    def _learn_erasures(self) -> None:
        """Read what was erased elsewhere: it must leave this spool as well."""
        now = time.monotonic()
        if now < self._poll_at:
            return
        self._last_erasure, found = erasure.erasures_since(self._engine, self._last_erasure)
        self._poll_at = now + POLL_S
        if found:
            self.forget(found)
            self._log_is_stale = True
        if self._log_is_stale:
            # An export that ran during the erasure kept the log from being emptied.
            self._log_is_stale = not erasure.empty_log(self._engine, 0.0)

    def _is_erased(self, session: bytes) -> bool:
        return self._identities.is_erased(session, self._erased)

    def _lost(self, sessions: int, reason: str, outcome: Outcome = "dropped") -> None:
        """Count sessions; log the first ones, then at most once a minute for each reason."""
        self._count(outcome, sessions)
        now = time.monotonic()
        if now >= self._next_log.get(reason, 0.0):
            self._next_log = {**dict(list(self._next_log.items())[-9:]), reason: now + LOG_S}
            log.error("sessions not kept", extra={"sessions": sessions, "reason": reason})
