"""How `emotide.v1` says no: error codes, close codes and the error itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLOSE_CODES: Mapping[str, int] = {
    "completed": 1000,
    "draining": 1012,
    "message_too_large": 1009,
    "internal_error": 1011,
    "overloaded": 1013,
    "invalid_message": 4400,
    "config_invalid": 4400,
    "unauthorized": 4401,
    "forbidden": 4403,
    "agent_channel_forbidden": 4403,
    "disclosure_required": 4403,
    "objected": 4403,
    "unknown_stream": 4404,
    "idle_timeout": 4408,
    "start_timeout": 4408,
    "slow_consumer": 4408,
    "stream_conflict": 4409,
    "session_expired": 4410,
    "unsupported_encoding": 4415,
    "rate_limited": 4429,
    "quota_exceeded": 4429,
}
"""Error code → WebSocket close code: 4000 + its HTTP analogue, or one of RFC 6455's own."""

RETRYABLE = {
    "draining",
    "internal_error",
    "overloaded",
    "rate_limited",
    "quota_exceeded",
    "disk_full",
}


class ProtocolError(Exception):
    """A peer's message or wish that is refused; `param` names the field, `message` the remedy.

    `values` are what the message says in figures and codes, so that a page can say it in its own
    language.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        fatal: bool = True,
        retry_after_s: float | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = _short(message, 300)
        self.param = None if param is None else _short(param, 64)
        self.fatal = fatal
        self.retry_after_s = retry_after_s
        self.values = values or {}
        self.file_id: str | None = None
        """The recording it is about, on /v1/files."""

    @property
    def close_code(self) -> int:
        return CLOSE_CODES.get(self.code, 4400)

    def body(self) -> dict[str, Any]:
        """The `error` event's own fields; absent where they say nothing."""
        body: dict[str, Any] = {
            "type": "error",
            "code": self.code,
            "message": self.message,
            "retryable": self.code in RETRYABLE,
            "fatal": self.fatal,
        }
        if self.param is not None:
            body["param"] = self.param
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        if self.values:
            body["values"] = dict(self.values)
        if self.file_id is not None:
            body["file_id"] = self.file_id
        return body


def _short(text: str, most: int) -> str:
    """What a client sent may be quoted, but never at length."""
    return text if len(text) <= most else text[: most - 3] + "..."
