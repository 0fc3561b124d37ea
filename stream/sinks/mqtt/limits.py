"""Limits that a broker states, and remedies for its reason codes. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from stream.sinks.mqtt.message import Message

FAILURE: Final = 0x80
"""Reason codes from this one on report a failure (MQTT 5.0, 2.4)."""
UNSUPPORTED_VERSION: Final = 0x84
SESSION_TAKEN_OVER: Final = 0x8E
PACKET_TOO_LARGE: Final = 0x95
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
TEMPORARY: Final = frozenset((0x88, 0x89))
"""Server unavailable, server busy."""

CONNECT_REMEDIES: Final = {
    0x85: "give each node its own server.node",
    0x86: "check mqtt.username and mqtt.password",
    0x87: "check mqtt.username, mqtt.password and the broker's access list",
    0x8A: "ask the broker's operator why this client is banned",
    0x8C: "use user name and password",
    0x95: "raise the broker's maximum packet size",
    0x97: "raise the broker's quota of this user",
    0x9F: "raise the broker's connection rate limit",
}
"""Remedy by reason code of a CONNACK (MQTT 5.0, 3.2.2.2)."""

PUBLISH_REMEDIES: Final = {
    0x87: "let this user publish to these topics in the broker's access list",
    0x90: "choose another mqtt.prefix: the broker does not accept these topic names",
    PACKET_TOO_LARGE: "raise the broker's maximum packet size",
    0x97: "raise the broker's quota of this user",
    0x99: "turn off the broker's check of payloads for these topics",
}
"""Remedy by reason code of a PUBACK (MQTT 5.0, 3.4.2.1)."""

DISCONNECT_REMEDIES: Final = {
    0x87: "check the broker's access list for this user",
    0x89: "the broker is overloaded",
    0x8B: "the broker shuts down",
    SESSION_TAKEN_OVER: "give each server its own server.node",
    0x90: "choose another mqtt.prefix: the broker does not accept these topic names",
    0x93: "raise the broker's Receive Maximum",
    PACKET_TOO_LARGE: "raise the broker's maximum packet size",
    0x96: "raise the broker's message rate limit, or lower mqtt.score_rate_hz",
    0x97: "raise the broker's quota of this user",
    0x98: "the broker's operator ended the connection",
    0x9C: "set mqtt.host to the broker's new address",
    0x9D: "set mqtt.host to the broker's new address",
    0x9F: "raise the broker's connection rate limit",
}
"""Remedy by reason code of a DISCONNECT (MQTT 5.0, 3.14.2.1)."""

SEE_LOG: Final = "see the broker's log"


class MessageRefused(Exception):
    """A message that the broker does not take; sending it again would not help."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{code:02X})")
        self.code = code
        self.remedy = PUBLISH_REMEDIES.get(code, SEE_LOG)


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """Properties of a CONNACK (MQTT 5.0, 3.2.2.3); the defaults are those of the specification.

    `packet_bytes` is the Maximum Packet Size, None without a limit; `in_flight` the Receive
    Maximum.
    """

    packet_bytes: int | None = None
    in_flight: int = 65_535
    qos: int = 2
    retain: bool = True
    wildcards: bool = True

    def adapted(self, message: Message, properties: int) -> Message:
        """Return `message` as the broker takes it; `properties` is their size in bytes.

        Lowers the QoS, clears the retain flag, and uses the short payload if the whole does not
        fit. Raises `MessageRefused` if that does not fit either.
        """
        if message.qos > self.qos or (message.retain and not self.retain):
            message = replace(
                message,
                qos=1 if message.qos and self.qos else 0,
                retain=message.retain and self.retain,
            )
        size = packet_bytes(message, properties)
        if self.packet_bytes is None or size <= self.packet_bytes:
            return message
        if message.short:
            return self.adapted(replace(message, payload=message.short, short=b""), properties)
        raise MessageRefused(
            PACKET_TOO_LARGE,
            f"a packet of {size} bytes exceeds the broker's maximum of {self.packet_bytes}",
        )


def packet_bytes(message: Message, properties: int) -> int:
    """Return the size of the PUBLISH packet in bytes (MQTT 5.0, 3.3)."""
    rest = 2 + len(message.topic.encode()) + (2 if message.qos else 0)
    rest += properties + len(message.payload)
    return 1 + _variable_integer(rest) + rest


def _variable_integer(value: int) -> int:
    """Return the number of bytes of a variable byte integer (MQTT 5.0, 1.5.5)."""
    return max(1, -(-value.bit_length() // 7))
