"""Errors of a connection: refused, unreachable, or broken and worth another try."""

from __future__ import annotations


class Refused(Exception):
    """The server refuses for good. `code` is the WebSocket close code (4000 + the HTTP analogue),
    `reason` the protocol's error code, `message` says what to do."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason}, {code})" if reason else f"{message} ({code})")
        self.code = code
        self.reason = reason
        self.message = message


class Unreachable(ConnectionError):
    """No server could be reached, or none came back in time."""


class Broken(Exception):
    """A connection that ended in a way that may pass; `retry_after_s` is the server's wish."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class NoServer(Broken):
    """Nothing answers at the address: at first a mistake, later something that may pass."""
