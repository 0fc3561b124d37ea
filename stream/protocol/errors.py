"""Errors of `emotide.v1`: error codes, WebSocket close codes, and `ProtocolError`."""

from __future__ import annotations

from collections.abc import Mapping

from stream.protocol.wire.codes import CloseReason, ErrorCode
from stream.protocol.wire.notices import FileErrorBody
from stream.protocol.wire.parts import Values

CLOSE_CODES: Mapping[CloseReason, int] = {
    "completed": 1000,
    "client_closed": 1000,
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
    "resumed elsewhere": 4409,
    "session_expired": 4410,
    "unsupported_encoding": 4415,
    "rate_limited": 4429,
    "quota_exceeded": 4429,
}
"""WebSocket close code by error code: 4000 + the HTTP analogue, or a code of RFC 6455."""

RETRYABLE: frozenset[ErrorCode] = frozenset(
    {
        "draining",
        "internal_error",
        "overloaded",
        "rate_limited",
        "quota_exceeded",
        "disk_full",
    }
)
"""Error codes after which the same request may succeed later."""


def close_code(reason: CloseReason) -> int:
    """Return the close code of an error code or of the reason of a session's end."""
    return CLOSE_CODES.get(reason, 4400)


class ProtocolError(Exception):
    """A refused message or request of a client.

    `message` names the problem and the remedy, `param` the field. `values` holds the numbers and
    names that the message contains, so that a page can translate it. `fatal` errors end the
    connection.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        fatal: bool = True,
        retry_after_s: float | None = None,
        values: Values | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = _shorten(message, 300)
        self.param = None if param is None else _shorten(param, 64)
        self.fatal = fatal
        self.retry_after_s = retry_after_s
        self.values: Values = values or {}
        self.file_id: str | None = None
        """The recording that the error is about; only on /v1/files."""

    @property
    def close_code(self) -> int:
        """WebSocket close code; 4400 for error codes without one of their own."""
        return close_code(self.code)

    def body(self) -> FileErrorBody:
        """Return the fields of the `error` event besides the common ones; empty ones are absent."""
        body: FileErrorBody = {
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
            body["values"] = self.values
        if self.file_id is not None:
            body["file_id"] = self.file_id
        return body


def _shorten(text: str, limit: int) -> str:
    """Cut `text` to `limit` characters, because messages quote text that clients sent."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
