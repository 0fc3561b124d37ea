"""Database of the history: its engine, and the migrations to the version of this program."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as Alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from stream.errors import ConfigError

log = logging.getLogger(__name__)

BUSY_S: Final = 5.0
"""Seconds that SQLite waits for another writer before a statement fails."""

CONNECT_S: Final = 5
"""Seconds in which PostgreSQL must accept a connection."""

STATEMENT_MS: Final = 60_000
"""Longest time of one statement in PostgreSQL."""

MIGRATION_LOCK: Final = 0x656D6F74
"""Number of PostgreSQL's advisory lock that a server holds while it migrates."""

PRAGMAS: Final = (
    f"busy_timeout = {round(BUSY_S * 1000)}",
    "journal_mode = WAL",
    # What was committed is on the disk: the spool's copy is deleted after it.
    "synchronous = FULL",
    "foreign_keys = ON",
    # Deleted rows are overwritten: what was erased cannot be read from the file.
    "secure_delete = ON",
)


def open_engine(url: str, *, pool_size: int = 4) -> sa.Engine:
    """Return the engine of a database, which need not be reachable yet.

    `url` is as in `history.url`. Raises `ConfigError` for one that is not valid, and for a file of
    SQLite that cannot be written.
    """
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError(f"history.url: {error}") from None
    options: dict[str, Any] = {"json_serializer": _json, "json_deserializer": orjson.loads}
    if parsed.get_backend_name() == "postgresql":
        connect = {
            "connect_timeout": CONNECT_S,
            "application_name": "emotide",
            # A network that swallows packets must not hold a connection for ever.
            "tcp_user_timeout": 20_000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": f"-c statement_timeout={STATEMENT_MS}",
        }
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            pool_pre_ping=True,
            pool_timeout=CONNECT_S,
            connect_args=connect,
            **options,
        )
    file = Path(parsed.database or "")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        raise ConfigError(f"history.url: cannot write {file}: {error}") from None
    engine = sa.create_engine(
        parsed,
        pool_size=pool_size,
        pool_timeout=BUSY_S,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        **options,
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _on_connect(connection: Any, _: object) -> None:
    # sqlite3 must not begin transactions itself: it leaves out those of reads and of DDL.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    # Two transactions that read and then write would fail at once, without the busy time-out.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction that writes; commit it at the end."""
    with engine.connect() as connection:
        connection = connection.execution_options(writes=True)
        with connection.begin():
            yield connection


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Migrate the database to the version of this program, under a lock.

    Raises `ConfigError` if the database is newer, and `sqlalchemy.exc.DBAPIError`.
    """
    with _alembic() as alembic, writing(engine) as connection:
        _lock(connection)
        current = MigrationContext.configure(connection).get_current_revision()
        known = {
            script.revision for script in ScriptDirectory.from_config(alembic).walk_revisions()
        }
        if current is not None and current not in known:
            raise ConfigError(
                f"history.url: the database has version {current}, which this program does not "
                "know: a newer Emotide made it; install that version, or name another database"
            )
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, revision)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Migrate the database to an older version; "base" removes all tables."""
    with _alembic() as alembic, writing(engine) as connection:
        _lock(connection)
        alembic.attributes["connection"] = connection
        command.downgrade(alembic, revision)


def _lock(connection: sa.Connection) -> None:
    # SQLite's BEGIN IMMEDIATE is a lock already.
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))


@contextmanager
def _alembic() -> Iterator[Alembic]:
    with as_file(files("stream.history") / "migrations") as folder:
        alembic = Alembic()
        alembic.set_main_option("script_location", str(folder).replace("%", "%%"))
        alembic.set_main_option("path_separator", "os")
        yield alembic
