"""Names from outside, escaped so that they can be printed, logged and sent as UTF-8. Pure."""

from __future__ import annotations

JOINERS = "\u200c\u200d"
"""Characters without a glyph that words of some languages need (Unicode, section 23.2)."""


def printable(text: str) -> str:
    """Return text without control characters: each is shown as an escape sequence of Python.

    A terminal would obey them, and signs for the direction of text would reorder a line. Bytes of a
    file name that are not UTF-8 become `\\xff`.
    """
    return "".join(map(_shown, utf8(text)))


def utf8(text: str) -> str:
    """Return text that can be encoded: bytes of a file name that are not UTF-8 become `\\xff`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair of UTF-16, as JSON may hold
        return text.encode("utf-8", "backslashreplace").decode()


def _shown(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
