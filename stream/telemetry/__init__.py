"""Metrics, logs, the audit log, and progress of startup."""
