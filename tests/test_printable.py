"""Names from outside, escaped for terminals, logs and JSON."""

from __future__ import annotations

import logging

import orjson
import pytest

from stream.printable import printable, utf8
from stream.telemetry.logs import TextFormatter


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Gespräch 日本 [music] 🎙.wav", "Gespräch 日本 [music] 🎙.wav"),
        ("caf\udce9.wav", "caf\\xe9.wav"),
        ("\x1b[2J\x1b]0;owned\x07.wav", "\\x1b[2J\\x1b]0;owned\\x07.wav"),
        ("a\nb\tc\r.wav", "a\\nb\\tc\\r.wav"),
        ("\x9b31m.wav", "\\x9b31m.wav"),
        ("\ud83d.wav", "\\ud83d.wav"),
        ("a\u202egnp.wav", "a\\u202egnp.wav"),
        ("می\u200cخواهم.wav", "می\u200cخواهم.wav"),
    ],
)
def test_control_characters_and_stray_bytes_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert orjson.dumps(utf8(name))


def test_logs_as_text_have_no_control_characters() -> None:
    """A stream id or a name with escape sequences must not reach the operator's terminal."""
    record = logging.makeLogRecord({"msg": "stream started", "stream": "\x1b[31mred\n0 fake line"})
    line = TextFormatter().format(record)
    assert line.isprintable()
    assert "\\x1b[31mred\\n0 fake line" in line
