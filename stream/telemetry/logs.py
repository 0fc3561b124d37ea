"""Log formats: text for terminals, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import orjson

from stream.config import LogConfig
from stream.types import timestamp

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, event, then the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # orjson refuses huge integers and non-text keys; such records must not be lost.
            return json.dumps(line, default=str, skipkeys=True)


class TextFormatter(logging.Formatter):
    """The same record as one line of text."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        line = f"{timestamp(record.created)[11:23]} {record.levelname.lower():7} "
        line += f"{record.getMessage()} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(config: LogConfig) -> None:
    """Send all logs to stderr.

    Records of `websockets` are suppressed, because connections that break are normal. So are
    warnings of `uvicorn` and `python_multipart`, which any client can cause without limit.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = config.format == "text" or (config.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
