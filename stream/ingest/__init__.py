"""Producers' protocols as calls of a session."""
