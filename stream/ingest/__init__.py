"""Dialects that producers speak; each translates to the calls of a `Session`."""
