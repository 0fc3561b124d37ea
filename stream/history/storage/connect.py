"""Database of the history: its engine, and the migrations to the version of this program."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url

from stream.errors import ConfigError

log = logging.getLogger(__name__)

BUSY_S: Final = 5.0
"""Seconds that SQLite waits for another writer before a statement fails."""

CONNECT_S: Final = 5
"""Seconds in which PostgreSQL must accept a connection."""

STATEMENT_MS: Final = 60_000
"""Longest time of one statement in PostgreSQL."""

HEAD: Final = "0001"
"""Version of the newest migration in `migrations/versions`."""

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


def upgrade(engine: sa.Engine) -> None:
    """Migrate the database to the version of this program, under a lock.

    Raises `ConfigError` if the database is newer, and `sqlalchemy.exc.DBAPIError`.
    """
    if _version(engine) != HEAD:
        # Alembic takes 10 MB of memory, and is needed once after an update.
        from stream.history.storage.migration import migrate

        with writing(engine) as connection:
            migrate(connection)


def _version(engine: sa.Engine) -> str | None:
    """Return the version of the database; None for an empty one."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.execute(
            sa.text("SELECT version_num FROM alembic_version")
        ).scalar()
        return version


def upserting(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an insertion into `table` that can have an `ON CONFLICT`, for either database."""
    # The dialect of PostgreSQL takes 2 MB of memory.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)
