"""Search for what earlier processes of this node left on the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream.sinks.mqtt.connection import MqttConnection
from stream.sinks.mqtt.errors import SubscriptionRefused
from stream.sinks.mqtt.leftovers import Leftover, Leftovers
from stream.sinks.mqtt.topics import Topics

SCAN_QUIET_S, SCAN_S = 1.0, 10.0
"""Seconds without a message after which the search for leftovers ends, and its longest duration."""
SCANS = 2
"""Connections that may be lost during the search before it is given up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiscoveryTopics:
    """Topics of Home Assistant, and what handles their messages.

    `found` gets topic and payload of the retained configurations, once; `born` gets the payloads of
    `birth_topic`.
    """

    patterns: Sequence[str]
    found: Callable[[str, bytes], None]
    birth_topic: str
    born: Callable[[bytes], None]


class Scan:
    """Reads the retained topics once, on the first connection that lasts long enough.

    `left_behind` gets the streams that a dead process left, whose ends expire after `expiry_s`
    seconds. `discovery` is None without Home Assistant.
    """

    def __init__(
        self,
        topics: Topics,
        expiry_s: int,
        left_behind: Callable[[list[Leftover]], None],
        discovery: DiscoveryTopics | None,
    ) -> None:
        self._topics = topics
        self._expiry_s = expiry_s
        self._left_behind = left_behind
        self._discovery = discovery
        self._scans = 0

    @property
    def done(self) -> bool:
        """True if nothing is searched any more."""
        return self._scans >= SCANS

    async def run(self, connection: MqttConnection) -> None:
        """Listen to Home Assistant; read what is retained, unless that is done.

        Raises `BrokerUnavailable`.
        """
        if self._discovery is not None:
            await self._listen(connection, self._discovery)
        if self.done:
            return
        self._scans += 1
        leftovers = Leftovers(self._topics, self._expiry_s)
        try:
            await connection.read_retained(
                self._topics.states,
                lambda topic, payload: leftovers.add(topic, payload, time.time()),
                leftovers.discard,
                SCAN_QUIET_S,
                SCAN_S,
            )
        except SubscriptionRefused as error:
            log.warning(
                "MQTT topics of an earlier process not cleared",
                extra={"reason": str(error), "consequence": "they expire after a day"},
            )
            found = []
        else:
            found = leftovers.take()
        self._left_behind(found)
        if self._discovery is not None:
            await self._find_devices(connection, self._discovery)
        self._scans = SCANS

    async def _listen(self, connection: MqttConnection, discovery: DiscoveryTopics) -> None:
        try:
            await connection.listen(discovery.birth_topic, discovery.born)
        except SubscriptionRefused as error:
            log.warning(
                "Home Assistant's start will not be noticed",
                extra={"reason": str(error), "consequence": "it relies on retained messages"},
            )

    async def _find_devices(self, connection: MqttConnection, discovery: DiscoveryTopics) -> None:
        """Look for devices that an earlier process of this node announced."""
        try:
            await connection.read_retained(
                discovery.patterns, discovery.found, lambda topic: None, SCAN_QUIET_S, SCAN_S
            )
        except SubscriptionRefused as error:
            log.warning(
                "devices of earlier processes in Home Assistant not found",
                extra={"reason": str(error), "consequence": "those of rooms that are gone stay"},
            )
