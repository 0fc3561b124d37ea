"""One connection to an MQTT broker, within the limits that the broker states."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from stream.config import MqttConfig
from stream.sinks.mqtt.client import IN_FLIGHT, Answer, Client, open_client
from stream.sinks.mqtt.errors import BrokerRefused, ConnectUnanswered, SubscriptionRefused
from stream.sinks.mqtt.limits import (
    FAILURE,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    UNSUPPORTED_VERSION,
    MessageRefused,
)
from stream.sinks.mqtt.message import Message


class MqttConnection:
    """An accepted connection.

    `close` disconnects cleanly; after `abort` the broker publishes the will.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received = _ignore
        self._listeners: dict[str, Callable[[bytes], None]] = {}
        self.limits = client.limits

    @property
    def expires(self) -> bool:
        """True if the broker supports message expiry, that is, MQTT 5."""
        return self._client.v5

    @property
    def protocol(self) -> str:
        """Name and version of the protocol in use."""
        return "MQTT 5" if self.expires else "MQTT 3.1.1"

    @property
    def in_flight(self) -> int:
        """Number of publications that may wait for an answer at once."""
        return min(IN_FLIGHT, self.limits.in_flight)

    def send(self, message: Message) -> Answer | None:
        """Publish within the broker's limits; return the answer to come, None if there is none.

        Raises `MessageRefused`, and `BrokerUnavailable`.
        """
        if message.retain and not message.payload and not self.limits.retain:
            return None  # nothing is retained, so that nothing has to be deleted
        properties, size = self._client.properties_of(message)
        return self._client.send(self.limits.adapted(message, size), properties)

    async def answered(self, answer: Answer) -> None:
        """Wait for the answer.

        Raises `MessageRefused`, and `BrokerUnavailable`.
        """
        code, reason = await self._client.answered(answer)
        if code >= FAILURE:
            raise MessageRefused(code, reason)

    async def wait_lost(self) -> None:
        """Wait until the connection is lost, then raise `BrokerUnavailable`."""
        await self._client.receive(self._on_message)

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic in self._listeners:
            self._listeners[topic](payload)
        else:
            self._received(topic, payload, retained)

    async def listen(self, topic: str, received: Callable[[bytes], None]) -> None:
        """Subscribe to a topic while `wait_lost` runs; `received` gets the payloads.

        Raises `SubscriptionRefused`, and `BrokerUnavailable`.
        """
        self._listeners[topic] = received
        await self._subscribe(topic)

    async def _subscribe(self, pattern: str) -> None:
        if not await self._client.listen(pattern):
            raise SubscriptionRefused(
                f"the broker refused a subscription to {pattern}: let this user read it in the "
                "broker's access list"
            )

    async def read_retained(
        self,
        patterns: Sequence[str],
        found: Callable[[str, bytes], None],
        republished: Callable[[str], None],
        quiet_s: float,
        limit_s: float,
    ) -> None:
        """Read the retained messages under topic filters, while `wait_lost` runs.

        `found` gets each message, `republished` each topic on which a client publishes meanwhile.
        Ends after `quiet_s` seconds without a message, after `limit_s` in any case. Raises
        `SubscriptionRefused`, and `BrokerUnavailable`.
        """
        if not self.limits.retain:
            return
        if not self.limits.wildcards:
            raise SubscriptionRefused("the broker does not support wildcard subscriptions")
        arrived = asyncio.Event()

        def received(topic: str, payload: bytes, retained: bool) -> None:
            arrived.set()
            if retained:
                found(topic, payload)
            else:
                republished(topic)

        self._received = received
        try:
            for pattern in patterns:
                await self._subscribe(pattern)
            end = time.monotonic() + limit_s
            with contextlib.suppress(TimeoutError):
                while (left := end - time.monotonic()) > 0:
                    arrived.clear()
                    await asyncio.wait_for(arrived.wait(), min(quiet_s, left))
            for pattern in patterns:
                await self._client.unlisten(pattern)
        finally:
            self._received = _ignore

    async def close(self) -> None:
        """Disconnect cleanly, so that the broker discards the will (MQTT 5.0, 3.14.4)."""
        await self._client.leave()

    def abort(self) -> None:
        """Drop the connection without a DISCONNECT; has no effect on a closed one."""
        self._client.drop()


def _ignore(topic: str, payload: bytes, retained: bool) -> None:
    pass


async def connect(config: MqttConfig, identifier: str, will: Message | None) -> MqttConnection:
    """Connect with MQTT 5, or with 3.1.1 if the broker does not support it.

    A will that the broker cannot retain, or not with QoS 1, is sent without. Raises
    `BrokerUnavailable`, or its subclass `BrokerRefused` if the broker answered and refused.
    """
    v5 = True
    while True:
        try:
            return MqttConnection(await open_client(config, identifier, will, v5))
        except ConnectUnanswered:
            # Some brokers of MQTT 3.1.1 close the connection without the answer that it demands.
            if not v5:
                raise
            v5 = False
        except BrokerRefused as refusal:
            if v5 and refusal.code == UNSUPPORTED_VERSION:
                v5 = False
            elif will is not None and will.retain and refusal.code == RETAIN_NOT_SUPPORTED:
                will = replace(will, retain=False)
            elif will is not None and will.qos and refusal.code == QOS_NOT_SUPPORTED:
                will = replace(will, qos=0)
            else:
                raise
