"""History of one server: database, writer and sink, and erasure that leaves nothing behind."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from stream.config import Config
from stream.errors import ConfigError
from stream.history.queries.reader import HistoryReader
from stream.history.storage import erasure
from stream.history.storage.connect import open_engine
from stream.history.storage.erasure import Selection
from stream.history.storage.identity import Identities, configured_identities
from stream.history.writing.recordings import recording
from stream.history.writing.sink import HistorySink, new_uid
from stream.history.writing.spool import Spool, SpoolInUse
from stream.history.writing.writer import Writer
from stream.protocol.wire.result import Result
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class History:
    """The history of a server with `history.url`. Methods that block are for a thread.

    `engine` is that of the writer and of erasures; `reader` has its own. Raises `ConfigError`.
    """

    def __init__(self, config: Config, metrics: Metrics, audit: AuditLog) -> None:
        self._config = config
        self._audit = audit
        self.engine = open_engine(config.history.url.get_secret_value())
        self.identities = configured_identities(config.history, config.privacy)
        self._writer = Writer(
            self.engine,
            config.history,
            self.identities,
            metrics.history_sessions,
            lambda tenant, sessions: audit.record(
                "history.expire", tenant=tenant, sessions=sessions
            ),
        )
        metrics.history_waiting.set_function(lambda: self._writer.waiting)
        self.reader = HistoryReader(config.history.url.get_secret_value())
        self.sink = HistorySink(self._writer, config.history, config.server.name, self.identities)

    def open(self) -> None:
        """Migrate the database and take over the spool; blocks. Raises `ConfigError`."""
        self._writer.open()
        history = self._config.history
        self._audit.record(
            "history.on",
            keep_days=history.keep_days or None,
            recordings=history.recordings,
            hashed=self._config.privacy.hash_ids,
        )

    def close(self) -> None:
        """Answer no more queries; the sink closes the writer."""
        self.reader.close()

    def recorded(self, result: Result, tenant: str) -> None:
        """Write the result of a recording, if `history.recordings` asks for it; never block."""
        if not self._config.history.recordings:
            return
        node = self._config.server.name
        try:
            self._writer.put(recording(result, tenant, new_uid(), node, self.identities))
        except Exception:
            # The recording has its result; a fault here must not take it away.
            log.exception("recording not kept in the history")

    def erase(self, selection: Selection, tenant: str, key: str = "") -> int:
        """Erase sessions from the database, the spool and memory; return their number; blocks.

        `tenant` and `key` are those of the request, for the audit log. Raises
        `sqlalchemy.exc.SQLAlchemyError`.
        """
        erased = erasure.erase(self.engine, selection, self.identities)
        sessions = erased.sessions + self._writer.forget(erased.erasures)
        record_erasure(self._audit, selection, sessions, tenant, key)
        return sessions


def record_erasure(
    audit: AuditLog, selection: Selection, sessions: int, tenant: str | None, key: str
) -> None:
    """Write an erasure to the audit log, without what was erased."""
    audit.record(
        "history.erase",
        tenant=tenant,
        key=key or None,
        kind=selection.kind,
        tenants=sorted(selection.tenants),
        sessions=sessions,
    )


def erase_offline(config: Config, engine: sa.Engine, selection: Selection) -> int:
    """Erase sessions for the command line; return their number.

    A server that runs meanwhile erases them from its own spool within seconds. Without one, this
    process erases them from the spool of the configuration. Raises `ConfigError` and
    `sqlalchemy.exc.SQLAlchemyError`.
    """
    identities: Identities = configured_identities(config.history, config.privacy)
    erased = erasure.erase(engine, selection, identities)
    sessions = erased.sessions
    spool = Spool(config.history.spool, round(config.history.spool_mb * 1e6))
    try:
        spool.open()
    except SpoolInUse:
        log.info("the spool is in use; the server that uses it erases from it")
    except ConfigError as error:
        # The command line shows the text of a record only.
        log.warning("the spool was not opened, and nothing erased from it: %s", error)
    else:
        before = {each.digest: each.before_ms for each in erased.erasures}
        sessions += spool.erase(lambda line: identities.is_erased(line, before))
        spool.close()
    audit = AuditLog(config.privacy.audit_log)
    record_erasure(audit, selection, sessions, None, "")
    audit.close()
    return sessions
