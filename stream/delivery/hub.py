"""Register of live streams, and delivery of their events to subscriptions and sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable

from stream.delivery.live_stream import LiveStream
from stream.delivery.sink import Sink
from stream.delivery.subscription import Subscription
from stream.protocol.events import EncodedEvent
from stream.tenants import Principal, StreamKey

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
"""Shortest time between two log records about one failing target."""


def _ignore(_: str) -> None:
    pass


class Hub:
    """Register of live streams; delivers each event to matching subscriptions and to all sinks.

    Sinks and subscriptions are isolated: an exception that one of them raises is logged and
    reported to `failed`, and the caller and all other targets continue. `failed` gets the class
    name of the sink, or "subscription".
    """

    def __init__(self, sinks: Iterable[Sink] = (), failed: Callable[[str], None] = _ignore) -> None:
        self.streams: dict[StreamKey, LiveStream] = {}
        """Live streams by tenant and id."""
        self._sinks = tuple(sinks)
        self._subscriptions: set[Subscription] = set()
        self._matching: dict[LiveStream, dict[Subscription, None]] = {}
        """Subscriptions by stream, in the order in which they began."""
        self._failures = _Failures(failed)

    def opened(self, stream: LiveStream) -> None:
        """Register a stream, match all subscriptions against it, and notify the sinks."""
        self.streams[stream.key] = stream
        self._matching[stream] = dict.fromkeys(
            s for s in self._subscriptions if self._matches(s, stream)
        )
        for sink in self._sinks:
            try:
                sink.opened(stream)
            except Exception as error:
                self._failures.sink(sink, "opened", error)

    def publish(self, stream: LiveStream, event: EncodedEvent) -> None:
        """Deliver an event to the stream's subscriptions and to the sinks."""
        for subscription in tuple(self._matching.get(stream, ())):
            try:
                subscription.offer(stream, event)
            except Exception as error:
                self._failures.subscription("offer", error)
        for sink in self._sinks:
            try:
                sink.event(stream, event)
            except Exception as error:
                self._failures.sink(sink, "event", error)

    def changed(self, stream: LiveStream) -> None:
        """Notify the sinks that the stream's state or tags changed."""
        for sink in self._sinks:
            try:
                sink.changed(stream)
            except Exception as error:
                self._failures.sink(sink, "changed", error)

    def closed(self, stream: LiveStream) -> None:
        """Remove a stream that ended, and notify its subscriptions and the sinks."""
        # After a takeover the id already belongs to the newer stream.
        if self.streams.get(stream.key) is stream:
            del self.streams[stream.key]
        for subscription in self._matching.pop(stream, ()):
            try:
                subscription.forget(stream)
            except Exception as error:
                self._failures.subscription("forget", error)
        for sink in self._sinks:
            try:
                sink.closed(stream)
            except Exception as error:
                self._failures.sink(sink, "closed", error)

    def visible(self, principal: Principal) -> list[LiveStream]:
        """Return the live streams that a principal may see."""
        return [stream for stream in self.streams.values() if principal.sees(stream.tenant)]

    def find(self, principal: Principal, stream_id: str, tenant: str = "") -> LiveStream | None:
        """Return the live stream that an id names for a principal; None if it sees none.

        Without a `tenant` its own comes first, then those that it watches, by name.
        """
        if tenant:
            key = (tenant, stream_id)
            return self.streams.get(key) if principal.sees(tenant) else None
        stream = self.streams.get((principal.tenant, stream_id))
        if stream is not None or not principal.watches_others:
            return stream
        named = [live for live in self.visible(principal) if live.stream_id == stream_id]
        return min(named, key=lambda live: live.tenant, default=None)

    def subscribe(self, subscription: Subscription) -> list[LiveStream]:
        """Add a subscription; return the live streams that it matches."""
        steps = self.subscribing(subscription)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                matched: list[LiveStream] = done.value
                return matched

    def subscribing(self, subscription: Subscription) -> Generator[None, None, list[LiveStream]]:
        """Do what `subscribe` does, in short steps; others may run between them."""
        yield from subscription.compile()
        matches: dict[LiveStream, bool] = {}
        while new := self._matching.keys() - matches.keys():
            for stream in new:
                matches[stream] = self._matches(subscription, stream)
                yield
        self._subscriptions.add(subscription)
        matched = [stream for stream in self._matching if matches[stream]]
        for stream in matched:
            self._matching[stream][subscription] = None
        return matched

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close and remove a subscription; removing it again has no effect."""
        try:
            subscription.close()
        except Exception as error:
            self._failures.subscription("close", error)
        self._subscriptions.discard(subscription)
        for subscriptions in self._matching.values():
            subscriptions.pop(subscription, None)

    def _matches(self, subscription: Subscription, stream: LiveStream) -> bool:
        try:
            return subscription.matches(stream)
        except Exception as error:
            self._failures.subscription("matches", error)
            return False


class _Failures:
    """Exceptions of sinks and subscriptions: every one is counted, few are logged.

    A target's first exception is logged, later ones at most once per `LOG_INTERVAL_S`, so that a
    sink that raises on every event cannot fill the log.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._next_log: dict[str, float] = {}
        self._since_log: dict[str, int] = {}

    def sink(self, sink: Sink, call: str, error: Exception) -> None:
        target = type(sink).__name__
        self._report(target, "sink failed", {"sink": target, "call": call}, error)

    def subscription(self, call: str, error: Exception) -> None:
        self._report("subscription", "subscription failed", {"call": call}, error)

    def _report(self, target: str, message: str, details: dict[str, str], error: Exception) -> None:
        self._count(target)
        failures = self._since_log[target] = self._since_log.get(target, 0) + 1
        now = time.monotonic()
        if now >= self._next_log.get(target, 0.0):
            self._next_log[target] = now + LOG_INTERVAL_S
            self._since_log[target] = 0
            log.error(message, exc_info=error, extra={**details, "failures": failures})
