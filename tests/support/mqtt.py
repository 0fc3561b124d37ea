"""An MQTT sink that runs, a reader of all topics, and counts of the observer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import orjson
from paho.mqtt.subscribeoptions import SubscribeOptions

from stream.config import MqttConfig, PrivacyConfig
from stream.delivery.live_stream import LiveStream
from stream.sinks.mqtt.observer import MqttObserver
from stream.sinks.mqtt.sink import MqttSink
from tests.support.mqtt_samples import CALM, INFO, STATS, alert, encoded, score, segment, start

READABLE = PrivacyConfig(hash_ids=False, min_group=1)
WAIT_S = 40.0
STATUS = "emotide/node/n1/status"

EXPECTED = {
    STATUS: (1, True, None, "emotide.status.v1"),
    "emotide/node/n1/info": (1, True, None, "emotide.info.v1"),
    "emotide/node/n1/stats": (0, True, 120, "emotide.stats.v1"),
    "emotide/stream/call-1/state": (1, True, 86_400, "emotide.state.v1"),
    "emotide/stream/call-1/customer/score": (0, True, 30, "emotide.score.v1"),
    "emotide/stream/call-1/customer/segment": (1, False, 3600, "emotide.segment.v1"),
    "emotide/stream/call-1/customer/alert": (1, False, 3600, "emotide.alert.v1"),
    "emotide/events": (1, False, 3600, "emotide.event.v1"),
    "emotide/group/sales/summary": (0, True, 120, "emotide.summary.v1"),
}
"""Topics of `publish_utterance` with the tag `sales`: QoS, retention, expiry and schema."""


async def until(condition: Callable[[], object], problem: str = "") -> None:
    """Wait until `condition` holds; fail with `problem` after `WAIT_S` seconds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, problem or "the condition never held"
        await asyncio.sleep(0.01)


async def unchanged(state: Callable[[], object], seconds: float = 1.0) -> None:
    """Wait until `state()` is the same for some seconds; fail after `WAIT_S` seconds."""
    deadline = time.monotonic() + WAIT_S
    while True:
        before = state()
        await asyncio.sleep(seconds)
        if state() == before:
            return
        assert time.monotonic() < deadline, f"it still changes: {before}, {state()}"


class Reader:
    """Messages that a subscriber to all topics received, by topic."""

    def __init__(self) -> None:
        self.received: dict[str, list[aiomqtt.Message]] = {}

    def payloads(self, topic: str) -> list[Any]:
        return [message.payload for message in self.received.get(topic, [])]

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(payload) for payload in self.payloads(topic) if payload]

    async def first(self, topic: str) -> aiomqtt.Message:
        await until(lambda: topic in self.received, f"nothing on {topic}")
        return self.received[topic][0]

    async def ends(self, topic: str) -> None:
        """Wait for the JSON that says that the stream of `topic` has ended."""
        await until(
            lambda: [body.get("state") for body in self.bodies(topic)][-1:] == ["ended"],
            f"{topic} did not end",
        )

    async def last_is(self, topic: str, payload: bytes) -> None:
        await until(
            lambda: self.payloads(topic)[-1:] == [payload],
            f"{topic} is not {payload!r}",
        )


@asynccontextmanager
async def reading(port: int, user: tuple[str, str] | None = None) -> AsyncIterator[Reader]:
    reader = Reader()
    name, password = user or (None, None)
    client = aiomqtt.Client(
        "127.0.0.1",
        port,
        username=name,
        password=password,
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=WAIT_S,
    )

    async def collect() -> None:
        async for message in client.messages:
            reader.received.setdefault(message.topic.value, []).append(message)

    async with client:
        # Retain as published: otherwise a live subscriber never gets the flag (MQTT 5.0, 3.8.3.1).
        await client.subscribe("#", options=SubscribeOptions(qos=1, retainAsPublished=True))
        task = asyncio.create_task(collect())
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.wait({task})


class Counts:
    """Calls of the observer, counted."""

    def __init__(self) -> None:
        self.connected: list[bool] = []
        self.sent = self.dropped = self.failed = self.refused = 0

    def observer(self) -> MqttObserver:
        return MqttObserver(
            self.connected.append, self._sent, self._dropped, self._failed, self._refused
        )

    def _sent(self, count: int) -> None:
        self.sent += count

    def _dropped(self, count: int) -> None:
        self.dropped += count

    def _failed(self, count: int) -> None:
        self.failed += count

    def _refused(self, count: int) -> None:
        self.refused += count


def make(
    port: int,
    privacy: PrivacyConfig = READABLE,
    counts: Counts | None = None,
    node: str = "n1",
    **config: Any,
) -> MqttSink:
    settings: dict[str, Any] = {"score_rate_hz": 50, **config}
    return MqttSink(
        MqttConfig(host="127.0.0.1", port=port, **settings),
        privacy,
        node,
        INFO.copy,
        lambda: STATS,
        (counts or Counts()).observer(),
    )


@asynccontextmanager
async def running(sink: MqttSink) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(sink.run(), name="mqtt")
    try:
        yield task
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def publish_utterance(sink: MqttSink, stream: LiveStream) -> None:
    """Open the stream and publish one utterance and an alert."""
    sink.opened(stream)
    for event in (start(), score(CALM)):
        published = encoded(stream, event)
        if published.type == "emotion.score":
            stream.last[0] = published
        sink.event(stream, published)
    sink.event(stream, encoded(stream, segment(CALM)))
    sink.event(stream, alert(stream))
