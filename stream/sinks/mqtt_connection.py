"""One connection to an MQTT broker; the only module that knows `aiomqtt`."""

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
"""How long a broker may take to accept the connection, and as long again for its CONNACK."""
ANSWER_S = 10.0
"""How long it may take to answer a publication."""
KEEPALIVE_S = 15

IN_FLIGHT: Final = 8
"""Publications that wait for their answer at once; below every broker's Receive Maximum."""

_UNSPECIFIED = 0x80
_UNSUPPORTED_VERSION = 0x84
_PASSING = {0x88, 0x89}  # server unavailable, server busy
_REMEDIES = {
    0x85: "give each node its own server.node",
    0x86: "check mqtt.username and mqtt.password",
    0x87: "check mqtt.username, mqtt.password and the broker's access list",
    0x8A: "ask the broker's operator why this client is banned",
    0x8C: "use user name and password",
    0x95: "raise the broker's maximum packet size",
    0x9F: "raise the broker's connection rate limit",
}
"""What helps against a CONNACK's reason code (MQTT 5.0, 3.2.2.2)."""


class BrokerGone(Exception):
    """There is no working connection to the broker; it may come back."""


class BrokerRefused(BrokerGone):
    """The broker answered and does not want us; the message names reason and remedy."""

    def __init__(self, code: int, reason: str) -> None:
        remedy = _REMEDIES.get(code, "see the broker's log")
        super().__init__(f"{reason} (0x{code:02X}): {remedy}")
        self.code = code


class MqttConnection:
    """A connection whose CONNACK said yes. Ends by `close`, or by `abort`: then the will speaks."""

    def __init__(self, client: aiomqtt.Client, version: aiomqtt.ProtocolVersion) -> None:
        self._client = client
        self._version = version

    @property
    def expires(self) -> bool:
        """Whether the broker knows message expiry, that is, MQTT 5."""
        return self._version is aiomqtt.ProtocolVersion.V5

    @property
    def protocol(self) -> str:
        return "MQTT 5" if self.expires else "MQTT 3.1.1"

    async def publish(self, message: Message) -> None:
        """Send; with QoS 1 wait for the answer. Raises `BrokerGone`."""
        properties = _properties(message, PacketTypes.PUBLISH) if self.expires else None
        try:
            await self._client.publish(
                message.topic, message.payload, message.qos, message.retain, properties
            )
        except aiomqtt.MqttError as error:
            raise BrokerGone(_said(error)) from None

    async def lost(self) -> None:
        """Wait until the connection is no more. Raises `BrokerGone`."""
        try:
            async for _ in self._client.messages:
                pass  # subscribed to nothing
        except aiomqtt.MqttError as error:
            raise BrokerGone(_said(error.__cause__ or error)) from None

    async def close(self) -> None:
        """Disconnect in good order: the broker drops the will (MQTT 5.0, 3.14.4)."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    def abort(self) -> None:
        """Drop the connection without a word; does nothing to a closed one."""
        _drop(self._client)


async def connect(config: MqttConfig, identifier: str, will: Message) -> MqttConnection:
    """Connect by MQTT 5, or by 3.1.1 when the broker refuses that.

    Raises `BrokerGone`, and `BrokerRefused` when the broker said no.
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
    # A new client each time: paho would send what an old one had in flight, and so do we.
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
        # open socket behind; the task appears with the socket, and nothing says when.
        while not entering.done() and client._misc_task is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        entering.cancel()
        await asyncio.wait({entering})
        _drop(client)
        raise
    except (OSError, ValueError) as error:
        # A name that cannot be one (IDNA), a certificate that is none: not aiomqtt's errors.
        _drop(client)
        raise BrokerGone(_said(error)) from None
    except aiomqtt.MqttError as error:
        _drop(client)
        code = getattr(error, "rc", None)
        if isinstance(code, ReasonCode) and code.value not in _PASSING:
            raise BrokerRefused(code.value, str(code)) from None
        raise BrokerGone(_said(error)) from None
    except BaseException:
        _drop(client)
        raise
    if disconnected.done():
        # Lost right after its CONNACK: aiomqtt has forgotten that by now and would wait for ever.
        _drop(client)
        raise BrokerGone(_said(disconnected.exception()))
    client.timeout = ANSWER_S
    return MqttConnection(client, version)


def _drop(client: aiomqtt.Client) -> None:
    # aiomqtt leaves socket and keep-alive task behind when a handshake fails or a farewell goes
    # unanswered, and has no call to end them.
    client._client._sock_close()
    if client._disconnected.done() and not client._disconnected.cancelled():
        client._disconnected.exception()


def _said(error: BaseException | None) -> str:
    code = getattr(error, "rc", None)
    if isinstance(code, ReasonCode):
        # Unspecified is also what a socket that just closed is called.
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
