"""Migrations of the database, by Alembic. `connect.upgrade` imports this only if it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as Alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from stream.errors import ConfigError

LOCK: Final = 0x656D6F74
"""Number of PostgreSQL's advisory lock that a server holds while it migrates."""


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Migrate to a newer version. `connection` is in a transaction of `connect.writing`.

    Raises `ConfigError` if the database has a version that this program does not know.
    """
    with _alembic(connection) as alembic:
        current = MigrationContext.configure(connection).get_current_revision()
        scripts = ScriptDirectory.from_config(alembic).walk_revisions()
        if current is not None and current not in {script.revision for script in scripts}:
            raise ConfigError(
                f"history.url: the database has version {current}, which this program does not "
                "know: a newer Emotide made it; install that version, or name another database"
            )
        command.upgrade(alembic, revision)


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Migrate to an older version; "base" removes all tables."""
    with _alembic(connection) as alembic:
        command.downgrade(alembic, revision)


@contextmanager
def _alembic(connection: sa.Connection) -> Iterator[Alembic]:
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE is a lock already
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    with as_file(files("stream.history.storage") / "migrations") as folder:
        alembic = Alembic()
        alembic.set_main_option("script_location", str(folder).replace("%", "%%"))
        alembic.set_main_option("path_separator", "os")
        alembic.attributes["connection"] = connection
        yield alembic
