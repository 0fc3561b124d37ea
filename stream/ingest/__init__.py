"""Protocols of producers, translated to calls of a session."""
