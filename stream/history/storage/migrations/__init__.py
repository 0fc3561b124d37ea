"""Migrations of the history's database, for Alembic."""
