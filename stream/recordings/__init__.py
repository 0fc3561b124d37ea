"""Recordings: upload, job, analysis, result, and the store of results."""
