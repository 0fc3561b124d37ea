"""Subscription: a compiled filter, and a throttle for scores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from stream.delivery.globs import Globs
from stream.delivery.live_stream import LiveStream
from stream.delivery.outbox import Outbox
from stream.delivery.queues import Throttle
from stream.protocol.events import SCORE, EncodedEvent
from stream.protocol.messages import Filter, Subscribe
from stream.protocol.wire.analysis import EmotionScore
from stream.protocol.wire.subscriber import StreamSnapshot
from stream.tenants import ANYONE, Principal


class Subscription:
    """One filter of one subscriber, compiled once; matching events go to the outbox.

    It matches streams that `principal` may see. Scores conflate per stream and channel and are
    throttled to `rate_hz`. All other events keep their order.
    """

    def __init__(
        self,
        request: Subscribe,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        principal: Principal = ANYONE,
    ) -> None:
        self.id = request.id
        self._principal = principal
        self._throttle: Throttle[tuple[str, EncodedEvent]] = Throttle(
            1 / request.rate_hz if request.rate_hz else 0.0
        )
        self._filter: Filter = request.filter
        self._outbox = outbox
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._streams = Globs(request.filter.streams)
        self._events = Globs(request.filter.events)
        self._types: dict[str, bool] = {}
        """Result of the filter for each type of event seen so far; there are few types."""
        self._tags = frozenset(request.filter.tags)
        self._tenants = frozenset(request.filter.tenants)

    def compile(self) -> Iterator[None]:
        """Compile the filter in short steps; without it, the first match does so at once."""
        yield from self._streams.compile()
        yield from self._events.compile()

    def matches(self, stream: LiveStream) -> bool:
        """Return whether the stream's tenant, id and tags match; roles are compared per event."""
        if not self._principal.sees(stream.tenant):
            return False
        if self._tenants and stream.tenant not in self._tenants:
            return False
        if not self._streams.matches(stream.stream_id):
            return False
        return not self._tags or not self._tags.isdisjoint(stream.tags)

    def accepts(self, event: EncodedEvent) -> bool:
        """Return whether an event of a matching stream passes the filter."""
        body = event.body
        passes = self._types.get(event.type)
        if passes is None:
            passes = self._types[event.type] = self._events.matches(event.type)
        if not passes:
            return False
        if self._filter.roles and "role" in body and body["role"] not in self._filter.roles:
            return False
        minimum = self._filter.min_score
        if minimum and "scores" in body:
            return any(body["scores"].get(label, 0.0) >= share for label, share in minimum.items())
        return True

    def offer(self, stream: LiveStream, event: EncodedEvent) -> None:
        """Queue an event if it passes the filter; the throttle may hold a score back.

        A score that is held when its stream ends is sent before `session.closed`.
        """
        if event.type == "session.closed":
            self._release_all(stream)
        if not self.accepts(event):
            return
        if event.type != SCORE:
            self._outbox.put(self._encode(stream.tenant, event))
            return
        key = self._key(stream, event.body["channel"])
        if self._throttle.offer(key, (stream.tenant, event), self._loop.time()):
            self._outbox.put(self._encode(stream.tenant, event), key)
        else:
            self._schedule()

    def _key(self, stream: LiveStream, channel: int) -> tuple[str, str, int]:
        # Of two streams that have one id after the other, each has its own throttle.
        return self.id, stream.session_id, channel

    def _release(self) -> None:
        """Queue the held scores that are due."""
        self._timer = None
        for key, held in self._throttle.due(self._loop.time()):
            self._outbox.put(self._encode(*held), key)
        self._schedule()

    def _release_all(self, stream: LiveStream) -> None:
        """Queue the held scores of a stream, which gets no more of them."""
        for channel in stream.analysed:
            key = self._key(stream, channel)
            held = self._throttle.forget(key)
            if held is not None:
                self._outbox.put(self._encode(*held), key)

    def _schedule(self) -> None:
        due = self._throttle.next_due()
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        self.close()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._release)

    def close(self) -> None:
        """Cancel the timer, so that no held score is queued."""
        if self._timer is not None:
            self._timer.cancel()

    def replay(self, stream: LiveStream, event: EncodedEvent) -> None:
        """Queue a past event if it passes the filter; it does not conflate."""
        if self.accepts(event):
            self._outbox.put(self._encode(stream.tenant, event))

    def replay_from(self, stream: LiveStream, since: Mapping[str, int]) -> int | None:
        """Return the last `seq` that the subscriber has of a stream; None if it names none.

        It names streams of its own tenant by their id, others as `TENANT/ID`.
        """
        if stream.tenant == self._principal.tenant and stream.stream_id in since:
            return since[stream.stream_id]
        return since.get(f"{stream.tenant}/{stream.stream_id}")

    def forget(self, stream: LiveStream) -> None:
        """Queue the held scores of a stream that ended, and drop the throttle's state of it."""
        self._release_all(stream)

    def _encode(self, tenant: str, event: EncodedEvent) -> str:
        tags = {"sub": self.id}
        if self._principal.watches_others:
            tags["tenant"] = tenant
        if not self._filter.labels or "scores" not in event.body:
            return event.tagged(tags).decode()
        return orjson.dumps({**self._with_labels(event.body), **tags}).decode()

    def _with_labels(self, body: Mapping[str, Any]) -> dict[str, Any]:
        labels = self._filter.labels or body["scores"].keys()
        rolling = {
            name: {k: v for k, v in shares.items() if k in labels}
            for name, shares in body["rolling"].items()
        }
        scores = {k: v for k, v in body["scores"].items() if k in labels}
        return {**body, "scores": scores, "rolling": rolling}

    def snapshot(self, stream: LiveStream) -> StreamSnapshot:
        """Return the stream's snapshot, with only the scores that pass the filter."""
        last = [event for _, event in sorted(stream.last.items()) if self.accepts(event)]
        scores = [cast(EmotionScore, self._with_labels(event.body)) for event in last]
        return {**stream.snapshot(self._principal.watches_others), "last": scores}
