"""Database of the history: tables, migrations, insertion, sums, erasure."""
