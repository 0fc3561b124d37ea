"""Register of live streams; hands each event to its subscriptions and to the sinks."""

from __future__ import annotations

from collections.abc import Iterable

from stream.delivery.live_stream import LiveStream
from stream.delivery.sink import Sink
from stream.delivery.subscription import Subscription
from stream.protocol.events import EncodedEvent


class Hub:
    """The register of live streams; hands each event to the sinks and to its audience."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self.streams: dict[str, LiveStream] = {}
        self._sinks = tuple(sinks)
        self._subscriptions: set[Subscription] = set()
        self._audience: dict[LiveStream, list[Subscription]] = {}

    def opened(self, stream: LiveStream) -> None:
        self.streams[stream.stream_id] = stream
        self._audience[stream] = [s for s in self._subscriptions if s.matches(stream)]
        for sink in self._sinks:
            sink.opened(stream)

    def publish(self, stream: LiveStream, event: EncodedEvent) -> None:
        for subscription in self._audience.get(stream, ()):
            subscription.offer(event)
        for sink in self._sinks:
            sink.event(stream, event)

    def changed(self, stream: LiveStream) -> None:
        for sink in self._sinks:
            sink.changed(stream)

    def closed(self, stream: LiveStream) -> None:
        # A taken-over id already belongs to the stream that took it.
        if self.streams.get(stream.stream_id) is stream:
            del self.streams[stream.stream_id]
        for subscription in self._audience.pop(stream, ()):
            subscription.forget(stream)
        for sink in self._sinks:
            sink.closed(stream)

    def subscribe(self, subscription: Subscription) -> list[LiveStream]:
        """Begin to listen; returns the streams that match now."""
        self._subscriptions.add(subscription)
        matched = [s for s in self._audience if subscription.matches(s)]
        for stream in matched:
            self._audience[stream].append(subscription)
        return matched

    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.close()
        self._subscriptions.discard(subscription)
        for audience in self._audience.values():
            if subscription in audience:
                audience.remove(subscription)
