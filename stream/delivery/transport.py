"""The seam for connections: whole messages in and out, driven by callbacks on the event loop."""

from __future__ import annotations

from typing import Protocol

from stream.protocol.wire.codes import ErrorCode

Message = str | bytes


class Transport(Protocol):
    """A connection that carries whole messages; its handler gets what arrives.

    `peer` is the address of the other side, for logs. No method blocks.
    """

    peer: str

    @property
    def writable(self) -> bool:
        """True while the peer reads: messages sent now do not pile up in memory."""
        ...

    def send(self, message: Message) -> None:
        """Send a message; without effect once the connection is closed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close after the messages sent so far; abort if the peer does not close within seconds."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...

    def pause(self) -> None:
        """Stop reading; messages that were read already may still arrive."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    def rest(self, messages: int, size: int, seconds: float) -> None:
        """Read next when `messages` of `size` bytes have arrived, or after `seconds`; only a hint.

        Nothing is due before the last of them. `messages` = 1 ends a rest.
        """
        ...


class Handler(Protocol):
    """The owner of a transport. An exception that it raises ends this connection only."""

    def received(self, message: Message) -> None:
        """Handle a message."""
        ...

    def resumed(self) -> None:
        """Send what waits: the peer reads again."""
        ...

    def disconnected(self, code: int | None) -> None:
        """Handle the end: `code` is the peer's close code, None if the connection broke."""
        ...

    def refused(self, code: ErrorCode, message: str) -> None:
        """Handle input that the transport itself refuses: a message that is too large."""
        ...
