"""MQTT broker that gives any answer: for reason codes and limits that a real one cannot be made to
send.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.tcp_server import TcpServer

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14

PROPERTIES: Mapping[str, tuple[int, str]] = {
    "server_keep_alive": (0x13, ">H"),
    "receive_maximum": (0x21, ">H"),
    "topic_alias_maximum": (0x22, ">H"),
    "maximum_qos": (0x24, ">B"),
    "retain_available": (0x25, ">B"),
    "maximum_packet_size": (0x27, ">I"),
    "wildcard_available": (0x28, ">B"),
}
"""Properties of a CONNACK: identifier and format (MQTT 5.0, 2.2.2.2)."""


@dataclass(frozen=True)
class Published:
    """A received PUBLISH: `size` is that of the packet in bytes."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    size: int


@dataclass
class Connected:
    """One connection: its CONNECT, and what arrived on it."""

    level: int
    identifier: str
    will: str | None
    will_qos: int
    will_retain: bool
    writer: asyncio.StreamWriter
    published: list[Published] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    pings: int = 0
    unanswered: int = 0
    most_unanswered: int = 0


class ScriptedBroker(TcpServer):
    """Broker that retains and forwards nothing.

    `refusals`: reason codes of the next CONNACKs, one per connection; None closes the connection
    without an answer. `properties` are those of the CONNACK. `puback` returns the code of a
    PUBACK, None for no answer. `suback` is the code of a SUBACK. `breaks` returns whether a PUBLISH
    ends the connection, with `disconnect` as the code of a DISCONNECT before it, None for none.
    `retained` are sent to whoever subscribes. `levels` are the protocol versions it accepts. A
    connection with an identifier that is in use ends the other one, over MQTT 5 with 0x8E.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[Connected] = []
        self.refusals: list[int | None] = []
        self.properties: dict[str, int] = {}
        self.puback: Callable[[Published], int | None] = lambda _: 0
        self.suback = 1
        self.breaks: Callable[[Published], bool] = lambda _: False
        self.disconnect: int | None = None
        self.retained: dict[str, bytes] = {}
        self.levels: tuple[int, ...] = (4, 5)
        self.delay_s = 0.0
        """Time before each PUBACK."""
        self._open: dict[str, Connected] = {}

    @property
    def published(self) -> list[Published]:
        return [message for one in self.connections for message in one.published]

    def end(self, connection: Connected, code: int | None) -> None:
        """End a connection, with a DISCONNECT if `code` is given."""
        if code is not None and connection.level == 5:
            connection.writer.write(packet(DISCONNECT, bytes([code, 0])))
        connection.writer.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, _, body = await read_packet(reader)
        assert kind == CONNECT
        one = connected(body, writer)
        self.connections.append(one)
        code = self.refusals.pop(0) if self.refusals else 0
        if one.level not in self.levels:
            code = 0x01 if code == 0 else code
        if code is None:
            return
        if code:
            writer.write(packet(CONNACK, bytes([0, code]) + (b"\x00" if one.level == 5 else b"")))
            await writer.drain()
            return
        before = self._open.get(one.identifier)
        if before is not None:
            self.end(before, 0x8E)
        self._open[one.identifier] = one
        stated = b"".join(
            bytes([PROPERTIES[name][0]]) + struct.pack(PROPERTIES[name][1], value)
            for name, value in self.properties.items()
        )
        writer.write(
            packet(CONNACK, b"\x00\x00" + (variable(len(stated)) + stated) * (one.level == 5))
        )
        try:
            while True:
                kind, flags, body = await read_packet(reader)
                if kind == DISCONNECT:
                    return
                if not await self._answer(one, kind, flags, body):
                    self.end(one, self.disconnect)
                    return
        finally:
            if self._open.get(one.identifier) is one:
                del self._open[one.identifier]

    async def _answer(self, one: Connected, kind: int, flags: int, body: bytes) -> bool:
        v5 = one.level == 5
        if kind == PINGREQ:
            one.pings += 1
            one.writer.write(packet(PINGRESP, b""))
        elif kind == PUBLISH:
            message, number = published(flags, body, v5)
            one.published.append(message)
            if self.breaks(message):
                return False
            if message.qos:
                one.unanswered += 1
                one.most_unanswered = max(one.most_unanswered, one.unanswered)
                answer = asyncio.create_task(self._acknowledge(one, message, number))
                self._tasks.add(answer)
                answer.add_done_callback(self._tasks.discard)
        elif kind in (SUBSCRIBE, UNSUBSCRIBE):
            number, rest = body[:2], body[2:]
            if v5:
                rest = rest[1 + rest[0] :]
            length = int.from_bytes(rest[:2], "big")
            topic = rest[2 : 2 + length].decode()
            properties = b"\x00" if v5 else b""
            if kind == UNSUBSCRIBE:
                one.writer.write(packet(UNSUBACK, number + properties + b"\x00" * v5))
                return True
            one.subscribed.append(topic)
            code = self.suback if v5 or self.suback < 0x80 else 0x80
            one.writer.write(packet(SUBACK, number + properties + bytes([code])))
            for topic, payload in self.retained.items() if code < 0x80 else ():
                name = topic.encode()
                message_body = len(name).to_bytes(2, "big") + name + properties + payload
                one.writer.write(packet(PUBLISH, message_body, flags=1))
        return True

    async def _acknowledge(self, one: Connected, message: Published, number: bytes) -> None:
        await asyncio.sleep(self.delay_s)
        code = self.puback(message)
        if code is None:
            return
        one.unanswered -= 1
        one.writer.write(packet(PUBACK, number + (bytes([code, 0]) if one.level == 5 else b"")))


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return a control packet (MQTT 5.0, 2.1)."""
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def variable(value: int) -> bytes:
    """Return a variable byte integer (MQTT 5.0, 1.5.5)."""
    encoded = b""
    while True:
        value, digit = divmod(value, 128)
        encoded += bytes([digit | (0x80 if value else 0)])
        if not value:
            return encoded


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Return kind, flags and body of the next control packet."""
    [first] = await reader.readexactly(1)
    length = shift = 0
    while True:
        [digit] = await reader.readexactly(1)
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return first >> 4, first & 0x0F, await reader.readexactly(length)


def connected(body: bytes, writer: asyncio.StreamWriter) -> Connected:
    """Return what a CONNECT states (MQTT 5.0, 3.1)."""
    level, flags = body[6], body[7]
    rest = body[10:]
    if level == 5:
        rest = rest[1 + rest[0] :]

    def text() -> str:
        nonlocal rest
        length = int.from_bytes(rest[:2], "big")
        value, rest = rest[2 : 2 + length], rest[2 + length :]
        return value.decode()

    identifier, will = text(), None
    if flags & 0x04:
        if level == 5:
            rest = rest[1 + rest[0] :]
        will = text()
    return Connected(level, identifier, will, flags >> 3 & 3, bool(flags & 0x20), writer)


def published(flags: int, body: bytes, v5: bool) -> tuple[Published, bytes]:
    """Return the message and the packet identifier of a PUBLISH (MQTT 5.0, 3.3)."""
    length = int.from_bytes(body[:2], "big")
    topic, rest, number = body[2 : 2 + length].decode(), body[2 + length :], b""
    qos = flags >> 1 & 3
    if qos:
        number, rest = rest[:2], rest[2:]
    if v5:
        rest = rest[1 + rest[0] :]
    size = 1 + len(variable(len(body))) + len(body)
    return Published(topic, rest, qos, bool(flags & 1), size), number
