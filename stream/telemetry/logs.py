"""Log formats: text for terminals, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import orjson

from stream.config import LogConfig
from stream.printable import printable
from stream.types import timestamp

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


MAX_TEXT, MAX_TRACE = 1_000, 20_000
"""Characters of one value, and of a traceback: clients can make both long."""


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    fields = vars(record).items()
    return {key: _shorten(value, MAX_TEXT) for key, value in fields if key not in _STANDARD}


def _shorten(value: Any, limit: int) -> Any:
    """Cut a text in the middle to `limit` characters; return other values unchanged."""
    if not isinstance(value, str) or len(value) <= limit:
        return value
    return f"{value[: limit // 2]} ... {value[-limit // 2 :]}"


def _printable(value: Any) -> str:
    """Return a value as text of one line, without control characters."""
    return printable(str(value))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, event, then the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _shorten(record.getMessage(), MAX_TEXT),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = _shorten(self.formatException(record.exc_info), MAX_TRACE)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # orjson refuses huge integers and non-text keys; such records must not be lost.
            return json.dumps(line, default=str, skipkeys=True)


class TextFormatter(logging.Formatter):
    """The same record as one line of text."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_printable(value)}" for key, value in _extra(record).items())
        line = f"{timestamp(record.created)[11:23]} {record.levelname.lower():7} "
        line += f"{_printable(_shorten(record.getMessage(), MAX_TEXT))} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + _shorten(self.formatException(record.exc_info), MAX_TRACE)
        return line


def configure(config: LogConfig) -> None:
    """Send all logs to stderr.

    Of `websockets`, `uvicorn` and `python_multipart` only errors are logged: any client can cause
    warnings without limit, and connections that break are normal.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = config.format == "text" or (config.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.ERROR)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
