"""aiomqtt and paho as this package uses them; the only module that imports them.

Both keep parts of the protocol to themselves that a publisher needs: the properties of the CONNACK
and the reason codes of PUBACK and DISCONNECT.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from stream.config import MqttConfig
from stream.sinks.mqtt.errors import (
    BrokerDisconnected,
    BrokerRefused,
    BrokerUnavailable,
    ConnectUnanswered,
)
from stream.sinks.mqtt.limits import FAILURE, TEMPORARY, BrokerLimits
from stream.sinks.mqtt.message import Message

CONNECT_S = 5.0
"""Timeout of the TCP connection, and again of the broker's CONNACK, in seconds."""
ANSWER_S = 10.0
"""Timeout of the broker's answer to a publication, in seconds."""
KEEPALIVE_S = 15
"""Seconds between two signs of life; a broker may ask for another time in its CONNACK."""

IN_FLIGHT: Final = 64
"""Publications that may wait for an answer at once; fewer if the broker's Receive Maximum is.

500 streams publish 400 messages of QoS 1 a second: enough for an answer after 150 ms. mosquitto
states a Receive Maximum of 20, enough for 50 ms.
"""

MAX_RECEIVED: Final = 65_536
"""Bytes of a packet that the broker may send (Maximum Packet Size of the CONNECT)."""
MAX_WAITING: Final = 10_000
"""Received messages that may wait to be looked at."""

Answer: TypeAlias = "asyncio.Future[ReasonCode]"
"""Answer to a publication, to come."""

_UNSPECIFIED, _KEEPALIVE_TIMEOUT = 0x80, 0x8D


class Client(aiomqtt.Client):
    """aiomqtt's client, with the answers of the broker that it does not pass on.

    The methods here raise `BrokerUnavailable`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connack: Properties | None = None
        self._disconnect_reason: ReasonCode | None = None
        self._answers: dict[int, Answer] = {}

    @property
    def v5(self) -> bool:
        """True if the connection speaks MQTT 5, False for 3.1.1."""
        return self._client.protocol == paho.MQTTv5

    @property
    def limits(self) -> BrokerLimits:
        """Limits that the broker stated in its CONNACK."""

        def stated(name: str, default: int) -> int:
            return int(getattr(self._connack, name, default))

        # 0 is not a valid Maximum Packet Size.
        return BrokerLimits(
            packet_bytes=stated("MaximumPacketSize", 0) or None,
            in_flight=max(1, stated("ReceiveMaximum", 65_535)),
            qos=stated("MaximumQoS", 2),
            retain=bool(stated("RetainAvailable", 1)),
            wildcards=bool(stated("WildcardSubscriptionAvailable", 1)),
        )

    def properties_of(self, message: Message) -> tuple[Properties | None, int]:
        """Return the properties to publish a message with, and their size in bytes."""
        if not self.v5:
            return None, 0
        properties = _properties(message, PacketTypes.PUBLISH)
        if properties is None:
            return None, 1
        return properties, len(properties.pack())  # type: ignore[no-untyped-call]  # as paho is

    def send(self, message: Message, properties: Properties | None) -> Answer | None:
        """Publish at once; return the answer to come, None for QoS 0 that the socket took."""
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties
        )
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise self._lost(aiomqtt.MqttCodeError(info.rc, "Could not publish message"))
        self._write()
        if info.is_published():
            return None
        answer = self._answers[info.mid] = self._loop.create_future()
        return answer

    async def answered(self, answer: Answer) -> tuple[int, str]:
        """Wait for the answer to a publication; return its code and name."""
        try:
            async with asyncio.timeout(self.timeout):
                code = await answer
        except TimeoutError:
            raise self._lost(aiomqtt.MqttError("no answer to a publication")) from None
        return code.value, str(code)

    async def receive(self, received: Callable[[str, bytes, bool], None]) -> NoReturn:
        """Pass topic, payload and retain flag of all messages to `received`, until it is lost."""
        try:
            async for message in self.messages:
                payload = message.payload
                if isinstance(payload, bytes):
                    received(message.topic.value, payload, bool(message.retain))
            raise aiomqtt.MqttError("connection closed")
        except aiomqtt.MqttError as error:
            raise self._lost(error.__cause__ or error) from None

    async def listen(self, pattern: str) -> bool:
        """Subscribe to a topic filter; return whether the broker permits it."""
        try:
            codes = await self.subscribe(pattern, 1)
        except aiomqtt.MqttError as error:
            raise self._lost(error) from None
        # paho gives numbers or reason codes, by version.
        return all(getattr(code, "value", code) < FAILURE for code in codes)

    async def unlisten(self, pattern: str) -> None:
        """End a subscription."""
        try:
            await self.unsubscribe(pattern)
        except aiomqtt.MqttError as error:
            raise self._lost(error) from None

    async def leave(self) -> None:
        """Disconnect cleanly."""
        with suppress(aiomqtt.MqttError):
            await self.__aexit__(None, None, None)

    def drop(self) -> None:
        """Close the socket without a DISCONNECT; has no effect on a closed one."""
        # aiomqtt leaves the socket and the keep-alive task open when a handshake fails or a
        # DISCONNECT gets no answer, and has no call to end them.
        self._client._sock_close()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()

    def _write(self) -> None:
        """Write what waits, as far as the socket takes it."""
        try:
            self._client.loop_write()
        except Exception as error:  # any of them ends the connection, as in aiomqtt
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _lost(self, error: BaseException) -> BrokerUnavailable:
        reason = self._disconnect_reason
        if reason is not None and reason.value:
            return BrokerDisconnected(reason.value, str(reason))
        if self._disconnected.done():
            # The cause of an error that followed, like that of a publication.
            error = self._disconnected.exception() or error
        code = getattr(error, "rc", None)
        by_us = isinstance(code, ReasonCode) and code.value == _KEEPALIVE_TIMEOUT
        return BrokerUnavailable(_reason(error), closed=self._disconnected.done() and not by_us)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._connack = properties
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._disconnect_reason = reason_code
        if not self._connected.done():
            # aiomqtt would wait for a CONNACK until the timeout.
            self._connected.set_exception(_ClosedEarly("connection closed before the CONNACK"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_register_write(
        self, client: paho.Client, userdata: Any, sock: paho.SocketLike
    ) -> None:
        # aiomqtt registers the number of the socket later. By then the socket may be closed, or its
        # number may be that of another connection, which the event loop would then confuse.
        def register() -> None:
            if client.socket() is sock and client.want_write():
                self._loop.add_writer(sock.fileno(), self._write)

        self._loop.call_soon_threadsafe(register)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)


class _ClosedEarly(aiomqtt.MqttError):
    """The broker closed the connection instead of answering the CONNECT."""


async def open_client(
    config: MqttConfig, identifier: str, will: Message | None, v5: bool
) -> Client:
    """Connect with MQTT 5 or 3.1.1.

    Raises `BrokerRefused`, `ConnectUnanswered`, and else `BrokerUnavailable`.
    """
    # A new client for each connection: an old one would resend its messages in flight, and the
    # publisher resends them as well.
    client = Client(
        config.host,
        config.port,
        username=config.username or None,
        password=config.password.get_secret_value() or None,
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
        will=None if will is None else _will(will, v5),
        timeout=CONNECT_S,
        keepalive=KEEPALIVE_S,
        properties=_connect_properties() if v5 else None,
        tls_params=aiomqtt.TLSParameters() if config.tls else None,
        max_inflight_messages=IN_FLIGHT,
        max_queued_incoming_messages=MAX_WAITING,
        # With Nagle's algorithm, messages wait until the broker's system confirms the one before.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client._client.connect_timeout = CONNECT_S
    disconnected = client._disconnected
    entering = asyncio.create_task(client.__aenter__(), name="mqtt-connect")
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        # The TCP connection is made in a thread that cannot be interrupted and would leave an
        # open socket behind. `_misc_task` appears with the socket, and no event reports that.
        while not entering.done() and client._misc_task is None:  # noqa: ASYNC110 - as said above
            await asyncio.sleep(0.02)
        entering.cancel()
        await asyncio.wait({entering})
        client.drop()
        raise
    except (OSError, ValueError) as error:
        # Invalid host names (IDNA) and certificates do not raise aiomqtt's errors.
        client.drop()
        raise BrokerUnavailable(_reason(error)) from None
    except _ClosedEarly as error:
        client.drop()
        raise ConnectUnanswered(str(error)) from None
    except aiomqtt.MqttError as error:
        client.drop()
        code = getattr(error, "rc", None)
        if isinstance(code, ReasonCode) and code.value not in TEMPORARY:
            raise BrokerRefused(code.value, str(code)) from None
        raise BrokerUnavailable(_reason(error)) from None
    except BaseException:
        client.drop()
        raise
    if disconnected.done():
        # Lost right after its CONNACK: aiomqtt does not report that later and would wait for ever.
        client.drop()
        raise BrokerUnavailable(_reason(disconnected.exception()), closed=True)
    client.timeout = ANSWER_S
    return client


def _will(will: Message, v5: bool) -> aiomqtt.Will:
    properties = _properties(will, PacketTypes.WILLMESSAGE) if v5 else None
    return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho is
    properties.MaximumPacketSize = MAX_RECEIVED
    return properties


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
