"""History: finished sessions in a database, with retention, erasure and roll-ups."""
