"""Log lines for machines and people, for any logged value."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from stream.config import LogConfig
from stream.telemetry.logs import MAX_TEXT, MAX_TRACE, JsonFormatter, TextFormatter, configure


def record(message: str = "logged", *args: object, **extra: Any) -> logging.LogRecord:
    created = logging.LogRecord("stream.test", logging.WARNING, __file__, 1, message, args, None)
    created.created = 0.25
    vars(created).update(extra)
    return created


def failed() -> logging.LogRecord:
    try:
        raise ValueError("broken\nfor good")
    except ValueError:
        made = record("it failed")
        made.exc_info = sys.exc_info()
        return made


def test_a_json_line_holds_the_message_and_the_extra_fields() -> None:
    line = JsonFormatter().format(record("took %d ms", 5, stream_id="call-1", size=3))
    assert json.loads(line) == {
        "ts": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "stream.test",
        "event": "took 5 ms",
        "stream_id": "call-1",
        "size": 3,
    }


def test_a_json_line_is_one_line_with_any_text_of_a_client() -> None:
    """A client's text with a line break must not forge a second log line."""
    forged = 'x\n{"level":"info","event":"all is well"}'
    line = JsonFormatter().format(record(forged, note=forged, lines=[forged]))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["event"] == forged


def test_an_exception_is_part_of_its_line() -> None:
    line = JsonFormatter().format(failed())
    assert len(line.splitlines()) == 1
    assert "ValueError: broken" in json.loads(line)["exception"]
    text = TextFormatter().format(failed())
    assert "it failed" in text.splitlines()[0]
    assert "ValueError: broken" in text


@pytest.mark.parametrize(
    "value",
    [
        Path("a/b"),
        {1, 2},
        object(),
        b"bytes",
        float("nan"),
        2**70,
        {1: "a"},
        "\ud800",
        ValueError("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_can_be_logged(value: object) -> None:
    """A record that cannot be encoded would be lost, and that happens when errors are logged."""
    line = json.loads(JsonFormatter().format(record(value=value)))
    assert line["event"] == "logged"
    assert "value" in line
    assert "value=" in TextFormatter().format(record(value=value))


def test_a_text_line_is_short() -> None:
    line = TextFormatter().format(record("took %d ms", 5, stream_id="call-1"))
    assert line == "00:00:00.250 warning took 5 ms stream_id=call-1"
    assert TextFormatter().format(record()) == "00:00:00.250 warning logged"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def stderr(out: io.StringIO) -> Iterator[io.StringIO]:
    """Set `out` as stderr and a fresh root logger; restore both afterwards.

    Not a fixture, because pytest replaces stderr between a test's setup and its call."""
    loggers = [logging.getLogger(name) for name in (None, "websockets", "asyncio")]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    loggers[0].handlers[:] = []
    try:
        with redirect_stderr(out):
            yield out
    finally:
        loggers[0].handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def test_without_a_terminal_lines_are_json() -> None:
    with stderr(io.StringIO()) as out:
        configure(LogConfig())
        logging.getLogger("stream.x").info("hello", extra={"n": 1})
        logging.getLogger("stream.x").debug("not logged")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["hello"]


def test_on_a_terminal_lines_are_text() -> None:
    with stderr(Terminal()) as out:
        configure(LogConfig())
        logging.getLogger("stream.x").info("hello")
    assert out.getvalue().endswith("info    hello\n")


def test_level_and_format_are_as_configured_and_may_change() -> None:
    with stderr(io.StringIO()) as out:
        configure(LogConfig(level="error", format="text"))
        logging.getLogger("stream.x").warning("not an error")
        configure(LogConfig(level="debug", format="json"))
        logging.getLogger("stream.x").debug("deep")
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == ["debug"]


def test_warnings_of_the_socket_library_are_suppressed() -> None:
    with stderr(io.StringIO()) as out:
        configure(LogConfig(level="debug"))
        logging.getLogger("websockets.server").warning("connection lost")
        logging.getLogger("asyncio").info("using selector")
        logging.getLogger("stream.x").info("hello")
    assert len(out.getvalue().splitlines()) == 1


def test_errors_of_the_socket_library_reach_the_log() -> None:
    """A handshake that made the library fail said "see server log", which was empty."""
    with stderr(io.StringIO()) as out:
        configure(LogConfig())
        logging.getLogger("websockets.server").error("opening handshake failed")
    assert json.loads(out.getvalue())["event"] == "opening handshake failed"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_line_is_bounded(formatter: logging.Formatter) -> None:
    """A path with a telephone number made lines of 7 kB, without a key."""
    made = failed()
    made.msg = "m" * 100_000
    vars(made).update(path="p" * 100_000, other="o" * 100_000)
    assert len(formatter.format(made)) < 4 * MAX_TEXT + MAX_TRACE


def test_a_text_line_has_no_control_characters() -> None:
    """A client's text with a line break must not forge a line, nor reach the terminal."""
    line = TextFormatter().format(record("x\ny", path="a\r\nb\x1b[31mc", name2="Zoë"))
    assert line.isprintable()
    assert "a\\r\\nb\\x1b[31mc" in line
    assert "Zoë" in line
