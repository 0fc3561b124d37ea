"""Migrations of the history's database, and the ways in which it is opened."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from stream.errors import ConfigError
from stream.history.storage.connect import HEAD, open_engine, upgrade, writing
from stream.history.storage.migration import downgrade
from stream.history.storage.tables import metadata
from tests.support.postgres import Postgres


def test_the_migrations_make_the_tables_of_the_program(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        made = sa.inspect(connection)
        for table in metadata.sorted_tables:
            named = {index["name"] for index in made.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= named


def test_the_version_of_the_program_is_that_of_the_newest_migration(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == HEAD


def test_all_migrations_can_be_undone_and_done_again(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        downgrade(connection, "base")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_of_a_newer_program_is_refused(engine: sa.Engine) -> None:
    """After a downgrade of the server an older program would write rows that the newer one cannot
    read; it has to name the version instead."""
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"version 9999.*a newer Emotide made it"):
        upgrade(engine)


def test_two_servers_that_start_together_migrate_once(url: str) -> None:
    engines = [open_engine(url), open_engine(url)]
    failures: list[BaseException] = []

    def migrate(engine: sa.Engine) -> None:
        try:
            upgrade(engine)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    with engines[0].connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar() == 1
    for engine in engines:
        engine.dispose()


def test_the_file_of_sqlite_is_private(sqlite_engine: sa.Engine, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "history.db").stat().st_mode) == 0o600


def test_sqlite_overwrites_what_is_deleted(sqlite_engine: sa.Engine) -> None:
    with sqlite_engine.connect() as connection:
        pragma = connection.exec_driver_sql
        assert pragma("PRAGMA secure_delete").scalar() == 1
        assert pragma("PRAGMA foreign_keys").scalar() == 1
        assert pragma("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("url", ["sqlite:////proc/none/history.db", "postgresql://u@h:none/x"])
def test_a_url_that_cannot_be_used_names_the_field(url: str) -> None:
    with pytest.raises(ConfigError, match=r"history\.url"):
        open_engine(url)


def test_a_database_that_is_away_is_not_an_error_of_the_configuration(postgres: Postgres) -> None:
    postgres.kill()
    try:
        engine = open_engine(f"postgresql://emotide@127.0.0.1:{postgres.port}/x")
        with pytest.raises(sa.exc.OperationalError):
            upgrade(engine)
    finally:
        postgres.start()
