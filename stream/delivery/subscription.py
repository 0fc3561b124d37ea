"""One subscription: a compiled filter, and a throttle for scores."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from typing import Any

import orjson

from stream.delivery.live_stream import LiveStream
from stream.delivery.queues import ConflatingQueue, Throttle
from stream.protocol.events import SCORE, EncodedEvent
from stream.protocol.messages import Filter, Subscribe


def _globs(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))


class Subscription:
    """One filter of one subscriber, compiled once; puts what passes into the outbox.

    Scores conflate per stream and channel and are paced by `rate_hz`; everything else keeps its
    place.
    """

    def __init__(
        self,
        wanted: Subscribe,
        outbox: ConflatingQueue[bytes],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.id = wanted.id
        self._pacer: Throttle[EncodedEvent] = Throttle(
            1 / wanted.rate_hz if wanted.rate_hz else 0.0
        )
        self._filter: Filter = wanted.filter
        self._outbox = outbox
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = 0.0
        self._streams = _globs(wanted.filter.streams)
        self._events = _globs(wanted.filter.events)
        self._tags = frozenset(wanted.filter.tags)

    def matches(self, stream: LiveStream) -> bool:
        """Whether the stream as such is wanted (ids and tags; roles are looked at per event)."""
        if not self._streams.match(stream.stream_id):
            return False
        return not self._tags or not self._tags.isdisjoint(stream.tags)

    def wants(self, event: EncodedEvent) -> bool:
        body = event.body
        if not self._events.match(event.type):
            return False
        if self._filter.roles and "role" in body and body["role"] not in self._filter.roles:
            return False
        least = self._filter.min_score
        if least and "scores" in body:
            return any(body["scores"].get(label, 0.0) >= share for label, share in least.items())
        return True

    def offer(self, event: EncodedEvent) -> None:
        if not self.wants(event):
            return
        if event.type != SCORE:
            self._outbox.put(self._worded(event))
            return
        key = (self.id, event.body["stream_id"], event.body["channel"])
        if self._pacer.offer(key, event, self._loop.time()):
            self._outbox.put(self._worded(event), key)
        else:
            self._wait()

    def _release(self) -> None:
        """Pass on held scores whose time has come."""
        self._timer = None
        for key, event in self._pacer.due(self._loop.time()):
            self._outbox.put(self._worded(event), key)
        self._wait()

    def _wait(self) -> None:
        due = self._pacer.next_due()
        if due is None or (self._timer is not None and self._wakes <= due):
            return
        self.close()
        self._wakes = due
        self._timer = self._loop.call_at(due, self._release)

    def close(self) -> None:
        """Nobody listens any more."""
        if self._timer is not None:
            self._timer.cancel()

    def replay(self, event: EncodedEvent) -> None:
        """Tell an event of the past, if it is wanted; it takes its place in the queue."""
        if self.wants(event):
            self._outbox.put(self._worded(event))

    def forget(self, stream: LiveStream) -> None:
        for channel in stream.analysed:
            self._pacer.forget((self.id, stream.stream_id, channel))

    def _worded(self, event: EncodedEvent) -> bytes:
        if not self._filter.labels or "scores" not in event.body:
            return event.tagged(self.id)
        return orjson.dumps({**self._labelled(event.body), "sub": self.id})

    def _labelled(self, body: Mapping[str, Any]) -> dict[str, Any]:
        labels = self._filter.labels or body["scores"].keys()
        rolling = {
            name: {k: v for k, v in shares.items() if k in labels}
            for name, shares in body["rolling"].items()
        }
        scores = {k: v for k, v in body["scores"].items() if k in labels}
        return {**body, "scores": scores, "rolling": rolling}

    def snapshot(self, stream: LiveStream) -> dict[str, Any]:
        """The stream's snapshot, with only the scores that the filter wants."""
        last = [event for _, event in sorted(stream.last.items()) if self.wants(event)]
        return {**stream.snapshot(), "last": [self._labelled(event.body) for event in last]}
