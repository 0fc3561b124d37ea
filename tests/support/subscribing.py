"""Subscribers and sinks of a hub without a server, and events to publish to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import orjson

from stream.delivery.live_stream import LiveStream
from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.events import EncodedEvent, encode
from stream.protocol.messages import Subscribe
from stream.telemetry.metrics import Metrics
from stream.tenants import ANY, ANYONE, DEFAULT, Principal
from tests.support.transport import FakeTransport

ACME, GLOBEX = Principal("a", "acme"), Principal("g", "globex")
OPS = Principal("o", "x", frozenset({ANY}))
"""A principal that watches all tenants."""


class Clock:
    """The part of an event loop that a subscription needs; the test advances the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        timer = (when, callback)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if timer in clock.timers:
                    clock.timers.remove(timer)

        return Handle()

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until


class Subscriber:
    """A subscriber's outbox and subscription. Its peer reads only in `received`."""

    def __init__(self, clock: Clock, principal: Principal = ANYONE, **fields: Any) -> None:
        self.transport = FakeTransport()
        self.transport.writable = False
        self.outbox = Outbox(self.transport, 100, Metrics("test"), lambda dropped: None)
        request = Subscribe.model_validate({"type": "subscribe", **fields})
        loop = cast(asyncio.AbstractEventLoop, clock)
        self.subscription = Subscription(request, self.outbox, loop, principal)

    def received(self) -> list[dict[str, Any]]:
        self.transport.writable = True
        self.outbox.flush()
        self.transport.writable = False
        sent = [orjson.loads(message) for message in self.transport.sent]
        self.transport.sent.clear()
        return sent


class Recorder:
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def opened(self, stream: LiveStream) -> None:
        self.calls.append(("opened", stream.session_id))

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        self.calls.append((event.type, stream.session_id))

    def changed(self, stream: LiveStream) -> None:
        self.calls.append(("changed", stream.session_id))

    def closed(self, stream: LiveStream) -> None:
        self.calls.append(("closed", stream.session_id))

    async def run(self) -> None: ...

    async def stop(self, timeout_s: float) -> None: ...


def stream(
    stream_id: str = "call-1",
    session: str = "",
    tags: tuple[str, ...] = (),
    tenant: str = DEFAULT,
) -> LiveStream:
    session = session or "s-" + stream_id
    roles = ("customer", "agent")
    return LiveStream(stream_id, session, roles, (0, 1), tags, 0.0, tenant=tenant)


def event(kind: str, seq: int = 0, stream_id: str = "call-1", **fields: Any) -> EncodedEvent:
    return encode({"type": kind, **fields}, seq, "s", stream_id, 0.0)


def score(
    seq: int = 0, angry: float = 0.5, channel: int = 0, stream_id: str = "call-1"
) -> EncodedEvent:
    shares = {"angry": angry, "sad": 1 - angry}
    return event(
        "emotion.score",
        seq,
        stream_id,
        channel=channel,
        role=("customer", "agent")[channel],
        scores=shares,
        rolling={"10s": shares},
    )
