"""One connection to an MQTT broker; the only module that imports `aiomqtt`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from stream.config import MqttConfig
from stream.sinks.mqtt_topics import Message

CONNECT_S = 5.0
"""Timeout of the TCP connection, and again of the broker's CONNACK, in seconds."""
ANSWER_S = 10.0
"""Timeout of the broker's answer to a publication, in seconds."""
KEEPALIVE_S = 15

IN_FLIGHT: Final = 8
"""Publications that may wait for an answer at once; below every broker's Receive Maximum."""

_UNSPECIFIED = 0x80
_UNSUPPORTED_VERSION = 0x84
_TEMPORARY = {0x88, 0x89}  # server unavailable, server busy
_REMEDIES = {
    0x85: "give each node its own server.node",
    0x86: "check mqtt.username and mqtt.password",
    0x87: "check mqtt.username, mqtt.password and the broker's access list",
    0x8A: "ask the broker's operator why this client is banned",
    0x8C: "use user name and password",
    0x95: "raise the broker's maximum packet size",
    0x9F: "raise the broker's connection rate limit",
}
"""Remedy by reason code of the CONNACK (MQTT 5.0, 3.2.2.2)."""


class BrokerUnavailable(Exception):
    """No working connection to the broker; a later attempt may succeed."""


class BrokerRefused(BrokerUnavailable):
    """Refusal of the connection by the broker; the message names the reason and the remedy."""

    def __init__(self, code: int, reason: str) -> None:
        remedy = _REMEDIES.get(code, "see the broker's log")
        super().__init__(f"{reason} (0x{code:02X}): {remedy}")
        self.code = code


class MqttConnection:
    """An accepted connection.

    `close` disconnects cleanly; after `abort` the broker publishes the will.
    """

    def __init__(self, client: aiomqtt.Client, version: aiomqtt.ProtocolVersion) -> None:
        self._client = client
        self._version = version

    @property
    def expires(self) -> bool:
        """True if the broker supports message expiry, that is, MQTT 5."""
        return self._version is aiomqtt.ProtocolVersion.V5

    @property
    def protocol(self) -> str:
        """Name and version of the protocol in use."""
        return "MQTT 5" if self.expires else "MQTT 3.1.1"

    async def publish(self, message: Message) -> None:
        """Publish; with QoS 1 wait for the answer. Raises `BrokerUnavailable`."""
        properties = _properties(message, PacketTypes.PUBLISH) if self.expires else None
        try:
            await self._client.publish(
                message.topic, message.payload, message.qos, message.retain, properties
            )
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(_reason(error)) from None

    async def wait_lost(self) -> None:
        """Wait until the connection is lost, then raise `BrokerUnavailable`."""
        try:
            async for _ in self._client.messages:
                pass  # without a subscription no message arrives
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(_reason(error.__cause__ or error)) from None

    async def close(self) -> None:
        """Disconnect cleanly, so that the broker discards the will (MQTT 5.0, 3.14.4)."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    def abort(self) -> None:
        """Drop the connection without a DISCONNECT; has no effect on a closed one."""
        _drop(self._client)


async def connect(config: MqttConfig, identifier: str, will: Message) -> MqttConnection:
    """Connect with MQTT 5, or with 3.1.1 if the broker does not support it.

    Raises `BrokerUnavailable`, or its subclass `BrokerRefused` if the broker answered and refused.
    """
    try:
        return await _open(config, identifier, will, aiomqtt.ProtocolVersion.V5)
    except BrokerRefused as refusal:
        if refusal.code != _UNSUPPORTED_VERSION:
            raise
    return await _open(config, identifier, will, aiomqtt.ProtocolVersion.V311)


async def _open(
    config: MqttConfig, identifier: str, will: Message, version: aiomqtt.ProtocolVersion
) -> MqttConnection:
    v5 = version is aiomqtt.ProtocolVersion.V5
    # A new client for each connection: an old one would resend its messages in flight, and the
    # publisher resends them as well.
    client = aiomqtt.Client(
        config.host,
        config.port,
        username=config.username or None,
        password=config.password.get_secret_value() or None,
        identifier=identifier,
        protocol=version,
        will=aiomqtt.Will(
            will.topic,
            will.payload,
            will.qos,
            will.retain,
            _properties(will, PacketTypes.WILLMESSAGE) if v5 else None,
        ),
        timeout=CONNECT_S,
        keepalive=KEEPALIVE_S,
        tls_params=aiomqtt.TLSParameters() if config.tls else None,
        max_inflight_messages=IN_FLIGHT,
    )
    client.pending_calls_threshold = IN_FLIGHT
    client._client.connect_timeout = CONNECT_S
    disconnected = client._disconnected
    entering = asyncio.create_task(client.__aenter__(), name="mqtt-connect")
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        # The TCP connection is made in a thread that cannot be interrupted and would leave an
        # open socket behind. `_misc_task` appears with the socket, and no event reports that.
        while not entering.done() and client._misc_task is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        entering.cancel()
        await asyncio.wait({entering})
        _drop(client)
        raise
    except (OSError, ValueError) as error:
        # Invalid host names (IDNA) and certificates do not raise aiomqtt's errors.
        _drop(client)
        raise BrokerUnavailable(_reason(error)) from None
    except aiomqtt.MqttError as error:
        _drop(client)
        code = getattr(error, "rc", None)
        if isinstance(code, ReasonCode) and code.value not in _TEMPORARY:
            raise BrokerRefused(code.value, str(code)) from None
        raise BrokerUnavailable(_reason(error)) from None
    except BaseException:
        _drop(client)
        raise
    if disconnected.done():
        # Lost right after its CONNACK: aiomqtt does not report that later and would wait for ever.
        _drop(client)
        raise BrokerUnavailable(_reason(disconnected.exception()))
    client.timeout = ANSWER_S
    return MqttConnection(client, version)


def _drop(client: aiomqtt.Client) -> None:
    # aiomqtt leaves the socket and the keep-alive task open when a handshake fails or a DISCONNECT
    # gets no answer, and has no call to end them.
    client._client._sock_close()
    if client._disconnected.done() and not client._disconnected.cancelled():
        client._disconnected.exception()


def _reason(error: BaseException | None) -> str:
    code = getattr(error, "rc", None)
    if isinstance(code, ReasonCode):
        # paho reports a closed socket as an unspecified error, too.
        return "connection closed" if code.value == _UNSPECIFIED else str(code)
    return str(error) or type(error).__name__


def _properties(message: Message, packet: int) -> Properties | None:
    if not message.schema:
        return None
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho left it untyped
    properties.PayloadFormatIndicator = 1
    properties.ContentType = message.content_type
    properties.UserProperty = [("schema", message.schema)]
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties
