"""Way of a finished session: collected, queued, on the disk, in the database."""
