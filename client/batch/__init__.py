"""Many recordings to results: by a server or in this process, resumable, with a report."""
