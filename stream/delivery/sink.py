"""What the hub tells a sink."""

from __future__ import annotations

from typing import Protocol

from stream.delivery.live_stream import LiveStream
from stream.protocol.events import EncodedEvent


class Sink(Protocol):
    """Takes the events of all streams. All calls but `run` and `stop` return at once."""

    def opened(self, stream: LiveStream) -> None:
        """A stream began."""
        ...

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        """Something was told of a stream."""
        ...

    def changed(self, stream: LiveStream) -> None:
        """The stream's state or tags are others now."""
        ...

    def closed(self, stream: LiveStream) -> None:
        """A stream ended; its state says so."""
        ...

    async def run(self) -> None:
        """Deliver until cancelled; outlives every failure of the other side."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Deliver what waits and say goodbye, within `timeout_s` seconds."""
        ...
