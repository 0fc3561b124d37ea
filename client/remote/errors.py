"""Errors of a connection: refused, unreachable, or broken and worth another attempt."""

from __future__ import annotations


class Refused(Exception):
    """Permanent refusal by the server.

    `code` is the WebSocket close code (4000 + the HTTP analogue), `reason` the protocol's error
    code, `message` the text with the remedy.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason}, {code})" if reason else f"{message} ({code})")
        self.code = code
        self.reason = reason
        self.message = message


class Unreachable(ConnectionError):
    """Failure to reach a server, at first or again within the time limit."""


class Broken(Exception):
    """Temporary failure of a connection; `retry_after_s` is the delay that the server asked for."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class NoServer(Broken):
    """No response at the address: permanent at the first attempt, temporary afterwards."""
