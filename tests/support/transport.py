"""A transport in memory."""

from __future__ import annotations

from stream.delivery.transport import Message


class FakeTransport:
    """Records what is sent; the test decides whether the peer reads."""

    def __init__(self) -> None:
        self.peer = "127.0.0.1"
        self.writable = True
        self.reading = True
        self.sent: list[Message] = []
        self.closes: list[tuple[int, str]] = []
        self.aborted = False
        self.rests: list[tuple[int, int, float]] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    def abort(self) -> None:
        self.aborted = True

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def rest(self, messages: int, size: int, seconds: float) -> None:
        self.rests.append((messages, size, seconds))
