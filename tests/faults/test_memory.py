"""The memory that one connection can take: the numbers of the table in docs/operations.md."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.attacks import BINARY, Connection, frame, hostile_globs, message, request
from tests.support.running import Server, running_server

CONNECTIONS = 200
MIB = 1_048_576

STREAM = "/v1/stream?sample_rate=48000&channels=2"

Client = Callable[[int, int], Awaitable[Connection]]


async def small_socket(port: int) -> Connection:
    """Connect with a small receive buffer, so that the kernel holds little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return Connection(*await asyncio.open_connection(sock=sock))


async def websocket(port: int, path: str) -> Connection:
    """Open a WebSocket that is never read."""
    connection = await small_socket(port)
    headers = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    await connection.send(request(path, headers))
    await connection.reader.readuntil(b"\r\n\r\n")
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return connection


async def push(connection: Connection, data: bytes, timeout_s: float = 2.0) -> Connection:
    """Send as much as the server reads."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(timeout_s):
            await connection.send(data)
    return connection


async def unfinished_message(port: int, number: int) -> Connection:
    """A producer that leaves the largest message unfinished."""
    return await push(await websocket(port, STREAM), frame(bytes(MIB), BINARY)[:-1])


async def audio_at_once(port: int, number: int) -> Connection:
    """A producer that sends audio as fast as the server reads."""
    return await push(await websocket(port, STREAM), frame(bytes(MIB - 64), BINARY) * 6)


async def unread_events(port: int, number: int) -> Connection:
    """A producer that causes events and reads none."""
    note = message("session.annotate", attrs={"note": "x" * 7_000})
    return await push(await websocket(port, STREAM), note * 450, 6.0)


async def unread_subscription(port: int, number: int) -> Connection:
    """A subscriber with the most filters and an unfinished message, that reads nothing."""
    connection = await websocket(port, "/v1/subscribe")
    for part in range(2):
        wanted = {"streams": ["*", *hostile_globs(63)], "events": ["*", *hostile_globs(63)]}
        await connection.send(message("subscribe", id=f"s{part}", filter=wanted))
    return await push(connection, frame(bytes(65_536))[:-1])


async def unread_upload(port: int, number: int) -> Connection:
    """An upload as fast as the server reads; its last message is unfinished."""
    connection = await websocket(port, "/v1/files")
    await connection.send(message("file.begin", name="x.wav", size=190_000_000))
    return await push(connection, frame(bytes(MIB - 64), BINARY) * 3 + frame(bytes(MIB))[:-1])


async def unfinished_request(port: int, number: int) -> Connection:
    """A request with the largest head, unfinished, behind others whose responses are not read."""
    connection = await small_socket(port)
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    head = request("/openapi.json") * 20 + request("/", "X: " + "x" * 15_000)[:-2]
    return await push(connection, head)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    options = ("files.max_clients=300", "limits.slow_consumer_s=60", "limits.resume_s=1")
    with running_server(*(x for option in options for x in ("--set", option))) as running:
        running.errors_expected = True
        yield running


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("client", "limit_mib"),
    [
        (unfinished_message, 2.5),
        (audio_at_once, 3.0),
        (unread_events, 4.0),
        (unread_subscription, 4.0),
        (unread_upload, 5.0),
        (unfinished_request, 0.6),
    ],
)
async def test_a_connection_takes_no_more_than_documented(
    client: Client, limit_mib: float, server: Server
) -> None:
    """Unfinished messages took 4.4 MB a subscriber, throttled producers 20 MB, unread events 17.8.

    64 s after such clients had vanished, the memory was unchanged.
    """
    warm = await client(server.port, -1)
    warm.drop()
    await asyncio.sleep(0.2)
    before = server.rss()

    talking = [await talker(server, number) for number in range(2)]
    clients = [client(server.port, number) for number in range(CONNECTIONS)]
    connections = await asyncio.gather(*clients)
    if client is unread_subscription:
        note = message("session.annotate", attrs={"note": "x" * 7_000})
        await asyncio.gather(*(push(stream, note * 250, 8.0) for stream in talking))
    await asyncio.sleep(1.0)
    grown = (server.rss() - before) / MIB / CONNECTIONS

    for connection in [*connections, *talking]:
        connection.drop()
    await asyncio.sleep(0.5)
    assert server.get("/healthz")[0] == 200
    limit = max(0.75, 0.85 * grown)
    kept = await memory_after(server, before, limit)
    print(f"{client.__name__}: {grown:.2f} MiB a connection, {kept:.2f} MiB after their end")
    assert grown < limit_mib
    assert kept < limit, "memory of vanished clients must be returned"


async def talker(server: Server, number: int) -> Connection:
    stream = await websocket(server.port, f"/v1/stream?sample_rate=16000&stream_id=t{number}")
    stream.writer.transport.resume_reading()  # type: ignore[attr-defined]
    stream.discard()
    return stream


async def memory_after(server: Server, before: int, limit: float) -> float:
    """Return the MiB per vanished connection, once they are below the limit or after 40 s.

    Uploads wait for the disk before they are removed.
    """
    deadline = time.monotonic() + 40
    while True:
        kept = (server.rss() - before) / MIB / CONNECTIONS
        if kept < limit or time.monotonic() > deadline:
            return kept
        await asyncio.sleep(0.5)
