"""What the hub tells, as MQTT topics that dashboards read."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stream.config import MqttConfig, PrivacyConfig
from stream.delivery.live_stream import LiveStream
from stream.delivery.queues import Throttle
from stream.protocol.events import SCORE, SEGMENT, EncodedEvent
from stream.sinks.mqtt_publisher import MqttObserver, Publisher
from stream.sinks.mqtt_topics import Message, StreamNames, Topics, Utterances, level
from stream.telemetry.metrics import Metrics

TICK_S = 0.05
UPKEEP_S = 1.0
"""Between two looks at group summaries, expired messages and streams long ended."""


@dataclass(slots=True, eq=False)
class _Member:
    """What is remembered of a live stream."""

    tags: tuple[str, ...]
    utterances: Utterances


def stream_names(privacy: PrivacyConfig) -> StreamNames:
    """How `privacy` wants streams to be called; without a key by a new one at every call."""
    if not privacy.hash_ids:
        return StreamNames(None)
    return StreamNames(privacy.hash_key.get_secret_value().encode() or secrets.token_bytes(32))


def mqtt_observer(metrics: Metrics) -> MqttObserver:
    """Return an observer that reports to `metrics`."""
    return MqttObserver(
        connected=metrics.mqtt_connected,
        sent=lambda count: metrics.sent("mqtt", count),
        dropped=lambda count: metrics.lost("mqtt", count),
        failed=metrics.mqtt_failed,
    )


class MqttSink:
    """A `Sink` that publishes to one broker; no call but `run` and `stop` ever waits for it.

    `info` and `stats` are asked for what the node's topics say, at every connect and every
    `mqtt.stats_interval_s`.
    """

    def __init__(
        self,
        config: MqttConfig,
        privacy: PrivacyConfig,
        node: str,
        info: Callable[[], Mapping[str, Any]],
        stats: Callable[[], Mapping[str, Any]],
        observer: MqttObserver | None = None,
    ) -> None:
        self._config = config
        self._info, self._stats = info, stats
        self._topics = topics = Topics(config.prefix, node, stream_names(privacy))
        # The same at every start, so that the broker speaks an old connection's will before the
        # new one's birth and never after (MQTT 5.0, 3.1.4-3).
        identifier = f"{config.prefix.replace('/', '-')}-{level(node)}"
        self._publisher = Publisher(
            config, identifier, topics.status(False), self._births, observer or MqttObserver()
        )
        self._pacer: Throttle[Message] = Throttle(1 / config.score_rate_hz)
        self._members: dict[LiveStream, _Member] = {}
        self._owners: dict[str, LiveStream] = {}
        self._moved: set[str] = set()
        self._clear_at: dict[str, float] = {}
        self._stopping = False

    @property
    def waiting(self) -> int:
        """What is not yet with the broker."""
        return self._publisher.waiting

    def opened(self, stream: LiveStream) -> None:
        if not stream.mqtt:
            return
        self._members[stream] = _Member(stream.tags, Utterances(stream, self._topics.names))
        self._owners[stream.stream_id] = stream
        self._tell_state(stream)
        self._moved.update(stream.tags)

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        member = self._members.get(stream)
        if member is None:
            return
        body = event.body
        if event.type == SCORE and self._owns(stream):
            message = self._topics.score(stream, body)
            if self._pacer.offer(message.topic, message, time.monotonic()):
                self._publisher.retain(message)
        elif event.type == SEGMENT:
            self._publisher.post(self._topics.segment(stream, body))
        elif event.type == "alert":
            self._publisher.post(self._topics.alert(stream, body))
        step = member.utterances.step(body)
        if step is not None:
            self._publisher.post(self._topics.change(*step))
        self._moved.update(member.tags)

    def changed(self, stream: LiveStream) -> None:
        member = self._members.get(stream)
        if member is None:
            return
        if not stream.mqtt:
            if self._owns(stream):
                self._publisher.clear(self._topics.state_topic(stream))
            self._forget(stream)
            return
        self._moved.update(member.tags, stream.tags)
        member.tags = stream.tags
        self._tell_state(stream)

    def closed(self, stream: LiveStream) -> None:
        if stream not in self._members:
            return
        if self._owns(stream):
            self._tell_state(stream)
            topic = self._topics.state_topic(stream)
            self._clear_at[topic] = time.monotonic() + self._config.clear_state_after_s
        self._forget(stream)

    async def run(self) -> None:
        """Deliver until cancelled or stopped; when cancelled, the broker speaks the will."""
        async with asyncio.TaskGroup() as group:
            clock = group.create_task(self._clock(), name="mqtt-clock")
            await self._publisher.run()
            clock.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Deliver what waits, delete what speaks of streams, say goodbye, within `timeout_s`."""
        self._stopping = True
        kept = {self._topics.of_node("status"), self._topics.of_node("info")}
        for topic in self._publisher.retained():
            if topic not in kept:
                self._publisher.clear(topic)
        self._publisher.retain(self._topics.status(False))
        await self._publisher.stop(timeout_s)

    def _births(self) -> list[Message]:
        return [self._topics.status(not self._stopping), self._topics.info(self._info())]

    def _owns(self, stream: LiveStream) -> bool:
        """Whether no newer stream took the id, and with it the retained topics."""
        return self._owners.get(stream.stream_id) is stream

    def _tell_state(self, stream: LiveStream) -> None:
        if self._owns(stream):
            self._clear_at.pop(self._topics.state_topic(stream), None)
            self._publisher.retain(self._topics.state(stream, time.time()))

    def _forget(self, stream: LiveStream) -> None:
        member = self._members.pop(stream)
        for step in member.utterances.close():
            self._publisher.post(self._topics.change(*step))
        self._moved.update(member.tags)
        if self._owns(stream):
            del self._owners[stream.stream_id]
            for topic in self._topics.score_topics(stream):
                self._pacer.forget(topic)
                self._publisher.clear(topic)

    async def _clock(self) -> None:
        """Say what is due by time alone."""
        upkeep_at = stats_at = 0.0
        while not self._stopping:
            now = time.monotonic()
            for _, message in self._pacer.due(now):
                self._publisher.retain(message)
            if now >= stats_at:
                stats_at = now + self._config.stats_interval_s
                self._publisher.retain(self._topics.stats(self._stats(), time.time()))
                # Summaries outlive their expiry while their streams are silent.
                self._moved.update(*(member.tags for member in self._members.values()))
            if now >= upkeep_at:
                upkeep_at = now + UPKEEP_S
                self._upkeep(now)
            await asyncio.sleep(TICK_S)

    def _upkeep(self, now: float) -> None:
        for tag in sorted(self._moved):
            self._publisher.retain(self._topics.summary(tag, self._tagged(tag), time.time()))
        self._moved.clear()
        for topic in [topic for topic, at in self._clear_at.items() if now >= at]:
            del self._clear_at[topic]
            self._publisher.clear(topic)
        self._publisher.expire()

    def _tagged(self, tag: str) -> Iterable[LiveStream]:
        return (stream for stream, member in self._members.items() if tag in member.tags)
