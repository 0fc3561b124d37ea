"""A second dialect on a second transport: nothing of `emotide.v1` is left on the wire."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stream.ingest.dialect import Audio, End, Flush, Reply, Start
from stream.ingest.producer import Producer
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import SessionConfig
from stream.server.connections.tcp import TcpConnection
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.toy_dialect import ToyDialect
from tests.support.utterances import encode, speech


def frame(kind: str, content: bytes = b"") -> bytes:
    return kind.encode() + len(content).to_bytes(2, "big") + content


CALL = frame("C", b"8000 mulaw call-1")


def test_the_dialect_needs_no_socket_and_no_event_loop() -> None:
    wire = CALL + frame("A", b"\xff" * 160) + frame("P", b"1") + frame("F") + frame("H")
    dialect = ToyDialect()
    commands = [c for at in range(len(wire)) for c in dialect.receive(wire[at : at + 1])]
    audio = {"sample_rate": 8000, "encoding": "mulaw"}
    config = SessionConfig.model_validate({"audio": audio, "stream_id": "call-1"})
    assert commands == [
        Start(config),
        Audio(b"\xff" * 160),
        Reply(b"pong 1\n"),
        Flush(),
        End(),
    ]


def test_the_dialect_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ProtocolError, match="unknown frame 'X'") as refused:
        list(ToyDialect().receive(frame("X")))
    assert not refused.value.fatal
    with pytest.raises(ProtocolError, match="RATE ENCODING ID"):
        list(ToyDialect().receive(frame("C", b"8000")))
    with pytest.raises(ProtocolError, match="had 65535 bytes"):
        list(ToyDialect().receive(b"A\xff\xff"))


@asynccontextmanager
async def listening(**limits: Any) -> AsyncIterator[tuple[Sessions, int]]:
    """Serve the toy dialect on a free port, with the real producer, registry and scheduler."""
    sessions = Sessions(**limits)
    await sessions.scheduler.start(LENGTHS)
    connections: set[TcpConnection] = set()

    def serve(connection: TcpConnection) -> Producer:
        producer = Producer(connection, ToyDialect(), sessions.services, sessions.registry)
        producer.connected()
        return producer

    server = await asyncio.get_running_loop().create_server(
        lambda: TcpConnection(serve, connections), "127.0.0.1", 0
    )
    try:
        async with sessions.running():
            yield sessions, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()
        await sessions.scheduler.stop(1.0)


async def lines(reader: asyncio.StreamReader) -> list[str]:
    return (await asyncio.wait_for(reader.read(), 20)).decode().splitlines()


async def test_a_call_is_scored_in_the_toy_dialect() -> None:
    async with listening() as (sessions, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = encode(speech(), "mulaw", 8000)
        wire = CALL + frame("P", b"1")
        wire += b"".join(frame("A", data[at : at + 160]) for at in range(0, len(data), 160))
        for at in range(0, len(wire), 997):
            writer.write(wire[at : at + 997])
        await until(lambda: ("default", "call-1") in sessions.hub.streams)
        assert sessions.hub.streams["default", "call-1"].adapter == "toy"
        writer.write(frame("H"))
        received = await lines(reader)
        writer.close()
    assert received[0] == "pong 1"
    assert received[-1] == "bye completed"
    assert [line for line in received if line.startswith("score ")]
    assert len(sessions.registry) == 0


async def test_a_second_configuration_of_a_call_is_refused_and_the_call_goes_on() -> None:
    """A dialect that let it pass opened a second session; nothing ever ended the first.

    Found by fuzzing.
    """
    async with listening() as (sessions, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CALL)
        await until(lambda: ("default", "call-1") in sessions.hub.streams)
        writer.write(frame("C", b"8000 mulaw call-2") + frame("A", bytes(160)) + frame("H"))
        received = await lines(reader)
        writer.close()
        assert len(sessions.registry) == 0
    assert received[0].startswith("error config_invalid: the session has started already")
    assert received[-1] == "bye completed"


async def test_errors_come_in_the_toy_dialect() -> None:
    async with listening() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame("A", b"\xff"))
        writer.write(frame("C", b"8000 opus call-1"))
        received = await lines(reader)
        writer.close()
    assert received == [
        "error invalid_message: the session has not started: send its configuration first"
    ]


@pytest.mark.parametrize("orderly", [True, False], ids=["end of file", "reset"])
async def test_a_connection_that_ends_ends_its_call(orderly: bool) -> None:
    """A dialect without reattachment must not leave a dead call on the monitor for a minute."""
    async with listening(resume_s=60) as (sessions, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CALL)
        await until(lambda: ("default", "call-1") in sessions.hub.streams)
        live = sessions.hub.streams["default", "call-1"]
        if not orderly:
            reset_on_close = struct.pack("ii", 1, 0)
            peer = writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
        writer.close()
        await until(lambda: not sessions.hub.streams)
    closed = [event for event in live.replay.since(-1) if event.type == "session.closed"]
    assert closed[0].body["reason"] == ("client_closed" if orderly else "connection_lost")


async def test_a_peer_that_never_configures_its_call_is_closed() -> None:
    async with listening(start_timeout_s=0.1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        received = await lines(reader)
        writer.close()
    assert received[0].startswith("error start_timeout")
