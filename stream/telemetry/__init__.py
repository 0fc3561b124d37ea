"""Metrics, logs, the audit log, and the progress of a start."""
