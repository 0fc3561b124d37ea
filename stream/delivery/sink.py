"""Interface between the hub and its sinks."""

from __future__ import annotations

from typing import Protocol

from stream.delivery.live_stream import LiveStream
from stream.protocol.events import EncodedEvent


class Sink(Protocol):
    """A destination of the events of all streams. Only `run` and `stop` may wait.

    The hub logs and counts exceptions of the other methods; they affect no stream.
    """

    def opened(self, stream: LiveStream) -> None:
        """Handle the start of a stream."""
        ...

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        """Handle one event of a stream."""
        ...

    def changed(self, stream: LiveStream) -> None:
        """Handle a change of the stream's state or tags."""
        ...

    def closed(self, stream: LiveStream) -> None:
        """Handle the end of a stream; its state is "ended"."""
        ...

    async def run(self) -> None:
        """Deliver until cancelled, despite any failure of the destination."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Deliver queued messages and disconnect, within `timeout_s` seconds."""
        ...
