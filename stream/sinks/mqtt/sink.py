"""MQTT sink: publishes the events of all streams to one broker."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Sequence

from stream.config import MqttConfig, PrivacyConfig
from stream.delivery.groups import Group, Groups
from stream.delivery.live_stream import LiveStream
from stream.delivery.queues import Throttle
from stream.labels import LABELS
from stream.protocol.events import SCORE, SEGMENT, EncodedEvent
from stream.protocol.wire.mqtt import Info, Stats
from stream.sinks.mqtt.discovery import Discovery
from stream.sinks.mqtt.home_assistant import HomeAssistant
from stream.sinks.mqtt.leftovers import Leftover
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import StreamNames, level
from stream.sinks.mqtt.observer import MqttObserver
from stream.sinks.mqtt.publisher import Publisher
from stream.sinks.mqtt.scan import DiscoveryTopics, Scan
from stream.sinks.mqtt.topics import Topics
from stream.sinks.mqtt.utterances import Utterances
from stream.tenants import StreamKey

log = logging.getLogger(__name__)

TICK_S = 0.05
"""Seconds between two checks for messages that are due."""
UPKEEP_S = 1.0
"""Seconds between two updates of group summaries, expired messages and ended streams."""


def stream_names(privacy: PrivacyConfig) -> StreamNames:
    """Return the stream names that `privacy` asks for.

    If ids are to be hashed and no key is configured, a new key is made at every call.
    """
    if not privacy.hash_ids:
        return StreamNames(None)
    return StreamNames(privacy.hash_key.get_secret_value().encode() or secrets.token_bytes(32))


class MqttSink:
    """A `Sink` that publishes to one broker. Only `run` and `stop` wait for the broker.

    `info` and `stats` return the payloads of the node's topics: `info` at every connect, `stats`
    every `mqtt.stats_interval_s` seconds.
    """

    def __init__(
        self,
        config: MqttConfig,
        privacy: PrivacyConfig,
        node: str,
        info: Callable[[], Info],
        stats: Callable[[], Stats],
        observer: MqttObserver | None = None,
    ) -> None:
        self._config = config
        self._info, self._stats = info, stats
        self._topics = topics = Topics(config.prefix, node, stream_names(privacy))
        # The same client identifier at every start, so that the broker publishes the will of an old
        # connection before the birth of the new one and never after it (MQTT 5.0, 3.1.4-3).
        identifier = f"{config.prefix.replace('/', '-')}-{level(node)}"
        self._home: HomeAssistant | None = None
        home = config.home_assistant
        if home.enabled:
            discovery = Discovery(home, topics, config.stats_interval_s)
            self._home = HomeAssistant(discovery, self._labels)
            if privacy.min_group > 1:
                log.warning(
                    "small groups are unavailable in Home Assistant",
                    extra={
                        "min_group": privacy.min_group,
                        "remedy": "set privacy.min_group = 1 for rooms with one microphone",
                    },
                )
        self._end_expiry_s = max(1, math.ceil(config.clear_state_after_s))
        self._scan = Scan(
            topics,
            self._end_expiry_s,
            self._end_left_behind,
            None if self._home is None else self._discovery_topics(self._home),
        )
        self._publisher = Publisher(
            config,
            topics,
            identifier,
            self._births,
            self._scan,
            observer or MqttObserver(),
        )
        self._throttle: Throttle[Message] = Throttle(1 / config.score_rate_hz)
        self._streams: dict[LiveStream, Utterances] = {}
        self._groups = Groups(privacy.min_group)
        self._owners: dict[StreamKey, LiveStream] = {}
        self._changed_groups: set[Group] = set()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Number of messages and topic updates not yet delivered to the broker."""
        return self._publisher.waiting

    def opened(self, stream: LiveStream) -> None:
        if not stream.mqtt:
            return
        self._streams[stream] = Utterances(stream, self._topics.names)
        self._owners[stream.key] = stream
        self._publish_state(stream)
        self._groups.opened(stream, time.time())
        self._changed_groups.update(self._groups.of(stream))

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        utterances = self._streams.get(stream)
        if utterances is None:
            return
        body = event.body
        self._groups.event(stream, event, time.time())
        if event.type == SCORE and self._owns(stream):
            message = self._topics.score(stream, body)
            if self._throttle.offer(message.topic, message, time.monotonic()):
                self._publisher.retain(message)
        elif event.type == SEGMENT:
            self._publisher.post(self._topics.segment(stream, body))
        elif event.type == "conversation" and self._owns(stream):
            for message in self._topics.conversation(stream, body):
                self._publisher.retain(message)
        elif event.type == "alert":
            self._publisher.post(self._topics.alert(stream, body))
        step = utterances.step(body)
        if step is not None:
            self._publisher.post(self._topics.change(*step, stream.tenant))
        self._changed_groups.update(self._groups.of(stream))

    def changed(self, stream: LiveStream) -> None:
        if stream not in self._streams:
            return
        if not stream.mqtt:
            self._forget(stream)
            return
        self._changed_groups.update(self._groups.of(stream))
        self._groups.changed(stream, time.time())
        self._changed_groups.update(self._groups.of(stream))
        self._publish_state(stream)

    def closed(self, stream: LiveStream) -> None:
        if stream in self._streams:
            self._forget(stream)

    async def run(self) -> None:
        """Deliver until cancelled or stopped; when cancelled, the broker publishes the will."""
        async with asyncio.TaskGroup() as group:
            clock = group.create_task(self._clock(), name="mqtt-clock")
            await self._publisher.run()
            clock.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Deliver queued messages, end the streams and groups, and disconnect.

        Takes at most `timeout_s` seconds.
        """
        self._stopping = True
        for stream in list(self._streams):
            self._forget(stream)
        self._publish_groups()
        if not self._publisher.taken_over:
            self._publisher.retain(self._topics.status(False))
        await self._publisher.stop(timeout_s)

    def _births(self) -> list[Message]:
        if self._publisher.taken_over:
            return []
        births = [self._topics.status(not self._stopping), self._topics.info(self._info())]
        return births + ([self._home.node()] if self._home else [])

    def _labels(self) -> Sequence[str]:
        model = self._info()["model"]
        return LABELS if model is None else model["labels"]

    def _discovery_topics(self, home: HomeAssistant) -> DiscoveryTopics:
        discovery = home.discovery

        def found(topic: str, payload: bytes) -> None:
            if home.found(topic, payload, time.monotonic()):
                self._publisher.left(topic)

        def born(payload: bytes) -> None:
            # Home Assistant has started. Over a broker that retains, this changes nothing.
            if payload == b"online":
                for message in (*self._births(), *home.all()):
                    self._publisher.retain(message)
                self._changed_groups.update(*map(self._groups.of, self._streams))

        return DiscoveryTopics(discovery.patterns, found, discovery.birth_topic, born)

    def _end_left_behind(self, found: list[Leftover]) -> None:
        """Publish the ends of the streams of a dead process."""
        for leftover in found:
            if self._publisher.retains(leftover.state.topic):
                continue  # the stream was opened again
            for message in (leftover.state, *leftover.ends):
                self._publisher.left(message.topic)
                self._publisher.retain(message)
            self._changed_groups.update((leftover.tenant, tag) for tag in leftover.tags)
        if found:
            log.info("MQTT streams of an earlier process ended", extra={"streams": len(found)})

    def _owns(self, stream: LiveStream) -> bool:
        """Return whether no newer stream has taken over the id, and with it the retained topics."""
        return self._owners.get(stream.key) is stream

    def _publish_state(self, stream: LiveStream) -> None:
        if self._owns(stream):
            self._publisher.retain(self._topics.state(stream, time.time()))

    def _forget(self, stream: LiveStream) -> None:
        for step in self._streams.pop(stream).close():
            self._publisher.post(self._topics.change(*step, stream.tenant))
        self._changed_groups.update(self._groups.of(stream))
        self._groups.closed(stream, time.time())
        if self._owns(stream):
            del self._owners[stream.key]
            for message in self._topics.ended(stream, time.time(), self._end_expiry_s):
                self._throttle.forget(message.topic)
                self._publisher.retain(message)

    async def _clock(self) -> None:
        """Publish the messages that time alone makes due."""
        upkeep_at = stats_at = 0.0
        while not self._stopping:
            now = time.monotonic()
            for _, message in self._throttle.due(now):
                self._publisher.retain(message)
            if now >= stats_at:
                stats_at = now + self._config.stats_interval_s
                if not self._publisher.taken_over:
                    self._publisher.retain(self._topics.stats(self._stats(), time.time()))
                # Publish the summaries of silent streams again, or they would expire.
                self._changed_groups.update(*map(self._groups.of, self._streams))
            if now >= upkeep_at:
                upkeep_at = now + UPKEEP_S
                self._publish_devices(now)
                self._publish_groups()
                self._publisher.expire()
            await asyncio.sleep(TICK_S)

    def _publish_devices(self, now: float) -> None:
        """Announce the devices of groups in use; remove those that were not used for long."""
        if self._home is not None:
            groups = set[Group]().union(*map(self._groups.of, self._streams))
            for message in self._home.used(groups, now):
                self._publisher.retain(message)
            for topic in self._home.forget(now):
                self._publisher.clear(topic)

    def _publish_groups(self) -> None:
        for group in sorted(self._changed_groups):
            now = time.time()
            summary = self._groups.summary(group, now)
            self._publisher.retain(self._topics.summary(summary, now, group[0]))
        self._changed_groups.clear()
