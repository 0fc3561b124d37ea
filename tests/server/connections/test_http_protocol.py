"""One HTTP connection without a socket: parsing in pieces, flow control, upgrades, time limits."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from stream.server.connections import http_protocol
from stream.server.connections.http_protocol import HttpProtocol
from stream.server.connections.intake import PIECE

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
SMALL_CHUNKS = b"1\r\nx\r\n" * 20_000


class FakeTransport:
    """The part of a transport that the protocol uses."""

    def __init__(self) -> None:
        self.written = b""
        self.changed = asyncio.Event()
        self.reading = True
        self.closed = self.aborted = False
        self.protocol: Any = None

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.written += data
        self.changed.set()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol


class FakeWebSocket:
    """The protocol of an upgraded connection; collects what it gets."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport
        self.received: list[bytes] = []

    def connection_made(self, transport: FakeTransport) -> None:
        assert transport is self.transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


class Connection:
    """A connection of an application that is called for each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.transport = FakeTransport()
        self.websocket = FakeWebSocket(self.transport)

        async def unused(scope: Scope, receive: Receive, send: Send) -> None: ...

        config = Config(unused, lifespan="off", log_config=None, ws="none", date_header=False)
        config.load()
        config.loaded_app = app
        config.ws_protocol_class = cast(Any, lambda **_: self.websocket)
        self.state = ServerState()
        self.protocol = HttpProtocol(config, self.state, {})
        self.protocol.connection_made(cast(asyncio.Transport, self.transport))

    def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)

    async def answered(self, times: int = 1) -> None:
        """Wait for responses; each body is a multiple of 10 and a full stop."""
        async with asyncio.timeout(60):
            while self.transport.written.count(b"0.") < times:
                await self.transport.changed.wait()
                self.transport.changed.clear()


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer with its size."""
    body = await Request(scope, receive).body()
    await Response(f"{len(body)}.")(scope, receive, send)


@pytest.fixture
async def connection() -> Connection:
    return Connection(count)


async def test_small_chunks_are_parsed_in_pieces(connection: Connection) -> None:
    """A read of 256 kB in chunks of one byte held the event loop, and all streams, for a second."""
    body = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + SMALL_CHUNKS + b"0\r\n\r\n"
    connection.receive(body)
    assert len(connection.protocol._held) == len(body) - PIECE
    assert not connection.transport.reading, "nothing more is read until then"
    await connection.answered()
    assert connection.transport.written.endswith(b"\r\n\r\n20000.")
    assert connection.transport.reading


async def test_a_body_of_announced_size_is_parsed_at_once(connection: Connection) -> None:
    connection.receive(HEAD + b"Content-Length: 100000\r\n\r\n")
    connection.receive(b"x" * 50_000)
    assert connection.protocol._held == b""
    connection.receive(b"x" * 50_000)
    await connection.answered()
    assert connection.transport.written.endswith(b"\r\n\r\n100000.")


async def test_several_requests_in_one_read_are_answered_in_turn(connection: Connection) -> None:
    request = HEAD + b"Content-Length: 3000\r\n\r\n" + b"x" * 3000
    connection.receive(request * 5)
    await connection.answered(5)
    assert connection.transport.reading


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_application_that_does_not_read_bounds_what_is_kept(chunked: bool) -> None:
    go = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await count(scope, receive, send)

    connection = Connection(slow)
    size = 400_000
    if chunked:
        connection.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        data = (b"%x\r\n%b\r\n" % (1000, b"x" * 1000)) * (size // 1000) + b"0\r\n\r\n"
    else:
        connection.receive(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        data = b"x" * size
    at = 0
    for _ in range(1000):
        if connection.transport.reading and at < len(data):
            connection.receive(data[at : at + 20_000])
            at += 20_000
        await asyncio.sleep(0)
    assert not connection.transport.reading
    assert at < 200_000
    assert len(connection.protocol.cycle.body) <= HIGH_WATER_LIMIT + 20_000
    go.set()
    while at < len(data):
        if connection.transport.reading:
            connection.receive(data[at : at + 20_000])
            at += 20_000
        await asyncio.sleep(0)
    await connection.answered()
    assert connection.transport.written.endswith(b"\r\n\r\n400000.")


async def test_data_that_comes_although_reading_is_paused_is_kept(connection: Connection) -> None:
    """A transport may deliver what it has already read."""
    body = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + SMALL_CHUNKS
    connection.receive(body)
    connection.receive(b"0\r\n\r\n")
    assert not connection.transport.reading
    await connection.answered()
    assert connection.transport.written.endswith(b"20000.")


async def test_a_lost_connection_is_not_parsed_further(connection: Connection) -> None:
    connection.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + SMALL_CHUNKS)
    connection.transport.closed = True
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks, return_exceptions=True)
    assert connection.protocol._held == b""
    assert connection.transport.written == b""


async def test_bytes_behind_an_upgrade_reach_the_websocket(connection: Connection) -> None:
    request = (
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nX: " + b"y" * PIECE + b"\r\n\r\n"
    )
    connection.receive(request + b"a" * 3 * PIECE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first, *rest = connection.websocket.received
    assert first.startswith(b"GET /v1/stream HTTP/1.1\r\n")
    assert b"".join(rest) == b"a" * 3 * PIECE
    assert connection.transport.reading


async def test_a_malformed_request_is_refused_as_json(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 3 * PIECE)
    head, _, body = connection.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"x-content-type-options: nosniff" in head
    reason = "invalid HTTP request: Missing mandatory Host: header"
    assert orjson.loads(body) == {"error": reason}
    assert connection.transport.closed
    assert connection.protocol._held == b""


async def test_a_malformed_body_after_the_response_began_aborts() -> None:
    """A second response cannot be sent: `h11` raised, and asyncio logged an error for each."""
    began = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        began.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    connection = Connection(endless)
    connection.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    await began.wait()
    connection.receive(b"not a chunk\r\n")
    assert connection.transport.aborted
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks)
    assert connection.transport.written.count(b"HTTP/1.1") == 1


async def test_a_request_that_does_not_arrive_ends_the_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_S", 0.05)
    late = Connection(count)
    late.receive(b"GET / HT")
    connection.receive(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await connection.answered()
    await asyncio.sleep(0.2)
    assert late.transport.aborted
    assert not connection.transport.closed
    connection.receive(b"GET / HT")
    await asyncio.sleep(0.2)
    assert connection.transport.aborted, "so does a later one on the same connection"
