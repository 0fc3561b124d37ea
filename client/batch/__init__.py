"""Batch analysis of recordings, by a server or in this process, resumable, with a report."""
