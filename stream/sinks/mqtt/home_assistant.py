"""Devices in Home Assistant: announced when in use, removed when unused for long. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from stream.delivery.globs import Globs
from stream.delivery.groups import Group
from stream.sinks.mqtt.discovery import Discovery
from stream.sinks.mqtt.message import Message

MAX_DEVICES: Final = 1_000
"""Devices of groups; tags beyond, perhaps one per call by mistake, get none."""


class HomeAssistant:
    """Devices that were announced, and when each was last in use.

    `labels` returns those of the model. `now` is monotonic seconds.
    """

    def __init__(self, discovery: Discovery, labels: Callable[[], Sequence[str]]) -> None:
        self.discovery = discovery
        self._labels = labels
        self._globs = Globs(discovery.config.tags)
        self._topics: dict[Group, str] = {}
        self._announced: dict[str, Message | None] = {}
        self._used: dict[str, float] = {}

    def node(self) -> Message:
        """Return the configuration of this server."""
        return self.discovery.node()

    def used(self, groups: Iterable[Group], now: float) -> list[Message]:
        """Record that groups have live streams; return the configurations that are new."""
        new = []
        for group in groups:
            topic = self._topics.get(group)
            if topic is None:
                if not self._globs.matches(group[1]) or len(self._used) >= MAX_DEVICES:
                    continue
                message = self.discovery.group(group, self._labels())
                topic = self._topics[group] = message.topic
                self._announced[topic] = message
                new.append(message)
            self._used[topic] = now
        return new

    def found(self, topic: str, payload: bytes, now: float) -> bool:
        """Add a device that an earlier process announced; return whether it is one of this node."""
        known = topic in self._announced or len(self._used) >= MAX_DEVICES
        if known or not self.discovery.owns(topic, payload):
            return False
        self._announced[topic] = None
        self._used[topic] = now
        return True

    def all(self) -> list[Message]:
        """Return the configurations of all devices that this process announced."""
        return [message for message in self._announced.values() if message is not None]

    def forget(self, now: float) -> list[str]:
        """Forget the devices that were not in use for long; return their topics."""
        limit = now - self.discovery.config.forget_after_h * 3600
        gone = {topic for topic, used in self._used.items() if used < limit}
        for topic in gone:
            del self._announced[topic], self._used[topic]
        if gone:
            self._topics = {g: topic for g, topic in self._topics.items() if topic not in gone}
        return sorted(gone)
