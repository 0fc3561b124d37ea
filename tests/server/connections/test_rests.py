"""Rests between reads, on real sockets: several messages in one read, and nothing missed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from stream.server.connections.rests import MOST_BYTES, Rest, Rests

MESSAGE = bytes(166)


class Reader(asyncio.Protocol):
    """A connection that records its reads, and may rest."""

    def __init__(self, rests: Rests) -> None:
        self._rests = rests
        self.rest: Rest
        self.reads: list[int] = []
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()
        self._changed = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = Rest(self._rests, self.transport)
        self.connected.set()

    def data_received(self, data: bytes) -> None:
        self.reads.append(len(data))
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended.set()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.rest.close()
        self.lost.set()

    async def received(self, size: int) -> None:
        async with asyncio.timeout(10):
            while sum(self.reads) < size:
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def connected(rests: Rests) -> AsyncIterator[tuple[Reader, asyncio.StreamWriter]]:
    """Connect a writer to a reader."""
    loop, reader = asyncio.get_running_loop(), Reader(rests)
    server = await loop.create_server(lambda: reader, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.wait_for(reader.connected.wait(), 10)
    try:
        yield reader, writer
    finally:
        writer.close()
        reader.transport.abort()
        server.close()


@pytest.fixture
async def rests() -> Rests:
    return Rests(asyncio.get_running_loop())


async def send(writer: asyncio.StreamWriter, messages: int) -> None:
    """Send messages one by one, with time for the reader to read each."""
    for _ in range(messages):
        writer.write(MESSAGE)
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_all_messages_of_a_rest_come_in_one_read(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, len(MESSAGE), 60)
        await send(writer, 9)
        assert not reader.reads
        await send(writer, 1)
        await reader.received(10 * len(MESSAGE))
        assert len(reader.reads) == 1


async def test_messages_that_are_a_little_smaller_end_a_rest_all_the_same(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, len(MESSAGE) + 6, 60)
        await send(writer, 10)
        await reader.received(10 * len(MESSAGE))
        assert len(reader.reads) == 1


async def test_a_rest_ends_in_time_if_less_comes(rests: Rests) -> None:
    """A command of a few bytes behind the audio would have waited for the next audio."""
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, len(MESSAGE), 0.2)
        await send(writer, 1)
        assert not reader.reads
        await reader.received(len(MESSAGE))
        await send(writer, 3)
        assert len(reader.reads) == 4, "each message is read at once after the rest"


async def test_a_rest_that_begins_anew_has_its_own_time(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(2, len(MESSAGE), 0.05)
        reader.rest.begin(10, len(MESSAGE), 60)
        await send(writer, 5)
        await asyncio.sleep(0.1)
        assert not reader.reads


async def test_one_message_ends_a_rest(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, len(MESSAGE), 60)
        await send(writer, 1)
        assert not reader.reads
        reader.rest.begin(1, 0, 0.0)
        await reader.received(len(MESSAGE))


async def test_the_end_of_the_stream_is_noticed_during_a_rest(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, len(MESSAGE), 60)
        writer.write(MESSAGE)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.ended.wait()
        assert reader.reads == [len(MESSAGE)]


async def test_large_messages_are_not_waited_for_beyond_the_bound(rests: Rests) -> None:
    async with connected(rests) as (reader, writer):
        reader.rest.begin(10, MOST_BYTES // 2, 60)
        writer.write(bytes(MOST_BYTES))
        await reader.received(MOST_BYTES)


async def test_a_rest_does_not_touch_the_socket_of_a_later_connection(rests: Rests) -> None:
    """The number of a closed socket goes to the next one, which then would have waited."""
    async with connected(rests) as (reader, _):
        reader.rest.begin(10, len(MESSAGE), 0.05)
        reader.transport.abort()
        async with asyncio.timeout(10):
            await reader.lost.wait()
        async with connected(rests) as (other, writer):
            reader.rest.begin(10, len(MESSAGE), 60)
            await asyncio.sleep(0.1)
            await send(writer, 1)
            await other.received(len(MESSAGE))


async def test_many_rests_share_a_timer(rests: Rests) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(connected(rests)) for _ in range(20)]
        for n, (reader, writer) in enumerate(pairs):
            reader.rest.begin(2, len(MESSAGE), 0.02 * (20 - n))
            writer.write(MESSAGE)
        for reader, _ in pairs:
            await reader.received(len(MESSAGE))
