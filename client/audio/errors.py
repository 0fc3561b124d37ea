"""Errors of audio files. Imports nothing, so that commands without files load fast."""

from __future__ import annotations


class NotAudio(Exception):
    """A file that cannot be played; the message names the file and the reason."""
