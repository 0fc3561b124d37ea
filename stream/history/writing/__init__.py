"""Writing of finished sessions: collectors, queue, spool, and the thread of the database."""
