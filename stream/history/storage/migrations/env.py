"""Entry of Alembic: runs migrations on the connection that `connect.upgrade` opened."""

from __future__ import annotations

from alembic import context

from stream.history.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a table by copying it.
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
