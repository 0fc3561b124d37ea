"""Attacks of one client on a server, each with up to 50 connections; run as a process of its own.

`python -m tests.support.attacks NAME PORT` attacks until it is killed. Every attack is one function
in `ATTACKS`; it gets the port and runs for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

import orjson

Attack = Callable[[int], Awaitable[None]]

CONNECTIONS = 50
STREAMS = 100
"""Idle live streams beside attacks whose cost grows with the streams."""

HOST = "127.0.0.1"
TEXT, BINARY, CONTINUED, PING = 1, 2, 0, 9

ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Register an attack under its name."""
    ATTACKS[function.__name__] = function
    return function


def frame(payload: bytes, opcode: int = TEXT, fin: bool = True) -> bytes:
    """Return a masked WebSocket frame; the mask is zero."""
    size = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + bytes(4) + payload


def message(kind: str, **fields: object) -> bytes:
    """Return a frame with a control message."""
    return frame(orjson.dumps({"type": kind, **fields}))


class Connection:
    """One TCP connection that discards, or does not read, what it receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._discarding: asyncio.Task[None] | None = None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def discard(self) -> None:
        self._discarding = asyncio.create_task(self._discard())

    async def _discard(self) -> None:
        with contextlib.suppress(OSError):
            while await self.reader.read(65_536):
                pass

    def drop(self) -> None:
        if self._discarding is not None:
            self._discarding.cancel()
        self.writer.transport.abort()


async def tcp(port: int) -> Connection:
    return Connection(*await asyncio.open_connection(HOST, port))


async def websocket(port: int, path: str, reads: bool = True) -> Connection:
    """Open a WebSocket without checks."""
    connection = await tcp(port)
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await connection.send(head.encode())
    await connection.reader.readuntil(b"\r\n\r\n")
    if reads:
        connection.discard()
    return connection


async def each(port: int, client: Callable[[int, int], Awaitable[None]], count: int = 0) -> None:
    """Run `client(port, number)` on many connections; one that is closed begins again."""

    async def again(number: int) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await client(port, number)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(again(number) for number in range(count or CONNECTIONS)))


async def flood(path: str, data: bytes, port: int, number: int, first: bytes = b"") -> None:
    """Send `data` on a WebSocket as fast as the server reads."""
    connection = await websocket(port, path)
    try:
        await connection.send(first)
        while True:
            await connection.send(data)
    finally:
        connection.drop()


async def live_streams(port: int) -> list[Connection]:
    """Open idle streams with long ids."""
    return [
        await websocket(port, f"/v1/stream?sample_rate=16000&stream_id={'a' * 50}-{number}")
        for number in range(STREAMS)
    ]


async def keep_alive(streams: list[Connection]) -> None:
    while True:
        for stream in streams:
            with contextlib.suppress(OSError):
                await stream.send(message("keepalive"))
        await asyncio.sleep(5)


def hostile_globs(count: int = 64) -> list[str]:
    """Return patterns that no cache has and that are slow to compile and to match."""
    return [
        "".join(random.choice(["*a", "[!b-y]", "?", "*"]) for _ in range(14)) for _ in range(count)
    ]


def hostile_subscribes() -> Iterator[bytes]:
    for number in itertools.count():
        name = f"s{number}"
        wanted = {"streams": hostile_globs(), "events": hostile_globs()}
        yield message("subscribe", id=name, filter=wanted) + message("unsubscribe", id=name)


@attack
async def subscribe_with_new_globs(port: int) -> None:
    """Subscribe and unsubscribe with 128 new globs a message, beside 100 streams."""
    streams = await live_streams(port)
    prepared = list(itertools.islice(hostile_subscribes(), 200))

    async def client(port: int, number: int) -> None:
        await flood("/v1/subscribe", b"".join(random.sample(prepared, 20)), port, number)

    await asyncio.gather(each(port, client), keep_alive(streams))


@attack
async def subscribe_with_snapshots(port: int) -> None:
    """Ask for the snapshots of 100 streams again and again, and never read them."""
    streams = await live_streams(port)
    data = (message("subscribe") + message("unsubscribe", id="s1")) * 50

    async def client(port: int, number: int) -> None:
        connection = await websocket(port, "/v1/subscribe", reads=False)
        while True:
            await connection.send(data)

    await asyncio.gather(each(port, client), keep_alive(streams))


@attack
async def many_subscriptions(port: int) -> None:
    """Fan out: every event goes to 32 subscriptions of each connection."""
    data = b"".join(message("subscribe", id=f"s{n}", snapshot=False) for n in range(32))
    talking = message("session.annotate", attrs={"note": "x" * 500})

    async def client(port: int, number: int) -> None:
        connection = await websocket(port, "/v1/subscribe")
        await connection.send(data)
        await asyncio.Event().wait()

    stream = "/v1/stream?sample_rate=16000"
    await asyncio.gather(each(port, client), each(port, partial(flood, stream, talking), 4))


@attack
async def list_subscriptions(port: int) -> None:
    await each(port, partial(flood, "/v1/subscribe", message("list") * 500))


@attack
async def keepalives(port: int) -> None:
    """Send the smallest legal messages on all three endpoints."""
    data = message("keepalive") * 1000
    paths = itertools.cycle(["/v1/subscribe", "/v1/files", "/v1/stream?sample_rate=16000"])
    await each(port, lambda p, n: flood(next(paths), data, p, n))


@attack
async def pings(port: int) -> None:
    await each(port, partial(flood, "/v1/subscribe", frame(b"", PING) * 1000))


@attack
async def fragments(port: int) -> None:
    """Send messages in fragments without content."""
    data = frame(b"", BINARY, fin=False) + frame(b"", CONTINUED, fin=False) * 2000
    again = frame(b"", CONTINUED, fin=False) * 2000
    stream = "/v1/stream?sample_rate=16000"
    await each(port, lambda p, n: flood(stream, again, p, n, first=data))


@attack
async def invalid_messages(port: int) -> None:
    """Make ten mistakes, and connect again."""
    await each(port, partial(flood, "/v1/subscribe", frame(b"{") * 10))


@attack
async def large_json(port: int) -> None:
    """Send control messages of a megabyte."""
    data = message("session.annotate", x={f"k{n}": [n] for n in range(60_000)})
    await each(port, partial(flood, "/v1/stream?sample_rate=16000", data))


@attack
async def notes(port: int) -> None:
    data = message("session.annotate", attrs={"note": "x" * 7_000}) * 10
    await each(port, partial(flood, "/v1/stream?sample_rate=16000", data))


@attack
async def skips(port: int) -> None:
    data = message("input.resume", skipped_ms=14_400_000) * 100
    await each(port, partial(flood, "/v1/stream?sample_rate=16000", data))


@attack
async def audio(port: int) -> None:
    """Send noise as fast as the server reads, in the dearest format."""
    data = frame(os.urandom(60_000).replace(b"\x7f", b"\x3f"), BINARY)
    await each(port, partial(flood, "/v1/stream?sample_rate=48000&channels=2", data))


@attack
async def single_bytes(port: int) -> None:
    """Send audio of one byte a message."""
    stream = "/v1/stream?sample_rate=16000"
    await each(port, partial(flood, stream, frame(b"\0", BINARY) * 1000))


@attack
async def sessions(port: int) -> None:
    """Open and end sessions as fast as possible, with one stream id."""

    async def client(port: int, number: int) -> None:
        path = f"/v1/stream?sample_rate=16000&stream_id=same{number % 5}&takeover=true"
        connection = await websocket(port, path)
        await connection.send(frame(bytes(3200), BINARY) + message("session.close"))
        await asyncio.sleep(0.05)
        connection.drop()

    await each(port, client)


@attack
async def resumes(port: int) -> None:
    """Guess resume tokens."""

    async def client(port: int, number: int) -> None:
        (await websocket(port, f"/v1/stream?resume=rt_{random.random()}")).drop()

    await each(port, client)


@attack
async def uploads_cancelled(port: int) -> None:
    begin = message("file.begin", name="x.wav", size=1000)
    data = (begin + frame(bytes(10), BINARY) + message("file.cancel")) * 20
    await each(port, partial(flood, "/v1/files", data))


@attack
async def uploads(port: int) -> None:
    """Send bytes of recordings as fast as possible."""
    begin = message("file.begin", name="x.wav", size=190_000_000)
    data = frame(bytes(1_000_000), BINARY)
    await each(port, lambda p, n: flood("/v1/files", data, p, n, first=begin), 16)


async def _requests(data: bytes, port: int, number: int) -> None:
    connection = await tcp(port)
    connection.discard()
    try:
        while True:
            await connection.send(data)
    finally:
        connection.drop()


def request(path: str, headers: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode()


@attack
async def pipelined_requests(port: int) -> None:
    """Send requests on one connection without waiting for the responses."""
    streams = await live_streams(port)
    data = (request("/v1/streams") + request("/metrics") + request("/v1/info")) * 20
    await asyncio.gather(each(port, partial(_requests, data)), keep_alive(streams))


@attack
async def short_connections(port: int) -> None:
    """Open a connection for each request."""

    async def client(port: int, number: int) -> None:
        connection = await tcp(port)
        await connection.send(request("/v1/info", "Connection: close\r\n"))
        await connection.reader.read()
        connection.drop()

    await each(port, client)


@attack
async def health_checks(port: int) -> None:
    await each(port, partial(_requests, request("/healthz") * 100))


@attack
async def huge_heads(port: int) -> None:
    """Send heads of 16 kB, as they are accepted, and beyond."""
    headers = "".join(f"X-{n}: {'x' * 90}\r\n" for n in range(155))
    await each(port, partial(_requests, request("/healthz", headers) * 5))


@attack
async def slow_heads(port: int) -> None:
    """Send heads byte by byte."""

    async def client(port: int, number: int) -> None:
        connection = await tcp(port)
        for byte in request("/", "X: " + "x" * 10_000):
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.001)

    await each(port, client)


@attack
async def tiny_chunks(port: int) -> None:
    """Send bodies in chunks of one byte to paths that read them and to paths that do not."""
    head = "Transfer-Encoding: chunked\r\n"
    body = b"1\r\nx\r\n" * 10_000

    async def client(port: int, number: int) -> None:
        connection = await tcp(port)
        connection.discard()
        path = "/v1/files" if number % 2 else "/v1/token"
        await connection.send(request(path, head, "POST"))
        while True:
            await connection.send(body)

    await each(port, client)


@attack
async def form_parts(port: int) -> None:
    """Send forms of hundreds of parts, a connection for each."""
    part = '--b\r\nContent-Disposition: form-data; name="p{}"\r\n\r\nx\r\n'
    body = ("".join(part.format(n) for n in range(500)) + "--b--\r\n").encode()
    head = f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n"

    async def client(port: int, number: int) -> None:
        connection = await tcp(port)
        await connection.send(request("/v1/files", head + "Connection: close\r\n", "POST") + body)
        await connection.reader.read()
        connection.drop()

    await each(port, client)


@attack
async def many_ranges(port: int) -> None:
    """Ask for thousands of ranges of a file."""
    ranges = ",".join(f"{n}-{n}" for n in range(0, 4000, 2))
    data = request("/openapi.json", f"Range: bytes={ranges}\r\n")
    await each(port, partial(_requests, data))


@attack
async def unread_files(port: int) -> None:
    """Ask for the largest files of the page and never read."""

    async def client(port: int, number: int) -> None:
        connection = await tcp(port)
        while True:
            await connection.send(request("/openapi.json") * 10)

    await each(port, client)


@attack
async def refused_upgrades(port: int) -> None:
    """Ask for WebSockets that do not exist."""

    async def client(port: int, number: int) -> None:
        (await websocket(port, "/v1/nothing")).drop()

    await each(port, client)


def names() -> Mapping[str, Attack]:
    return ATTACKS


if __name__ == "__main__":
    # The clients of a real attack do not take the server's processor.
    os.nice(10)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(ATTACKS[sys.argv[1]](int(sys.argv[2])))  # type: ignore[arg-type]
