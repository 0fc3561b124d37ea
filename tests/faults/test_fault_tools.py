"""The fault tools themselves: a proxy whose delay does nothing would prove that nothing is slow."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support import namespaces
from tests.support.namespaces import Namespace
from tests.support.tcp_proxy import Link, TcpProxy

BIG = bytes(range(256)) * 400


@dataclass
class Echo:
    """Server that echoes and records how each of its connections ended."""

    port: int = 0
    sizes: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while data := await reader.read(65_536):
                self.sizes.append(len(data))
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
            await writer.drain()
            self.ends.append("fin")
        except ConnectionError:
            self.ends.append("reset")
        finally:
            writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Echo, TcpProxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    try:
        async with TcpProxy(echo.port) as proxy:
            yield echo, proxy
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*echo.tasks), 10)


@asynccontextmanager
async def connected(
    proxy: TcpProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_without_faults_every_byte_passes_in_order() -> None:
    async with proxied() as (echo, proxy), connected(proxy) as (reader, writer):
        writer.write(BIG)
        assert await asyncio.wait_for(reader.readexactly(len(BIG)), 5) == BIG
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"bye"
        assert echo.ends == ["fin"]
        assert (proxy.accepted, proxy.up.forwarded) == (1, len(BIG))


async def test_delay_holds_every_byte_and_keeps_the_throughput() -> None:
    async with proxied() as (_, proxy):
        proxy.up.delay_s = 0.2
        async with connected(proxy) as (reader, writer):
            began = time.monotonic()
            for _ in range(10):
                writer.write(b"x" * 100)
                await asyncio.sleep(0.02)
            await asyncio.wait_for(reader.readexactly(1000), 5)
            assert 0.35 < time.monotonic() - began < 1.5, "ten delays of 0.2 s in turn take 2 s"


async def test_slices_arrive_as_small_pieces() -> None:
    async with proxied() as (_, proxy):
        proxy.up.piece = 1
        proxy.down.piece = 7
        async with connected(proxy) as (reader, writer):
            writer.write(BIG[:500])
            assert await asyncio.wait_for(reader.readexactly(500), 5) == BIG[:500]


async def test_throttling_limits_bytes_per_second() -> None:
    async with proxied() as (_, proxy):
        proxy.down.bytes_per_s = 20_000
        async with connected(proxy) as (reader, writer):
            began = time.monotonic()
            writer.write(BIG[:10_000])
            await asyncio.wait_for(reader.readexactly(10_000), 10)
            assert time.monotonic() - began > 0.4


async def test_a_stall_keeps_bytes_and_a_release_delivers_them() -> None:
    async with proxied() as (echo, proxy), connected(proxy) as (reader, writer):
        proxy.stall()
        writer.write(b"kept")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        assert not echo.sizes, "the target is as silent as the client"
        proxy.release()
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"kept"


async def test_a_stalled_link_keeps_a_bounded_number_of_bytes() -> None:
    async with proxied() as (_, proxy), connected(proxy) as (_, writer):
        proxy.stall()
        writer.transport.set_write_buffer_limits(high=65_536)
        sent = 0

        async def send_without_end() -> None:
            nonlocal sent
            while True:
                writer.write(BIG)
                sent += len(BIG)
                await writer.drain()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send_without_end(), 0.6)
        before = sent
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        assert before < 32 * Link.LIMIT, "the sender must feel that nothing is read"


async def test_a_reset_reaches_both_sides() -> None:
    async with proxied() as (echo, proxy), connected(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        for _ in range(100):
            if echo.ends:
                break
            await asyncio.sleep(0.01)
        assert echo.ends == ["reset"]


async def test_a_half_closed_connection_still_carries_the_other_direction() -> None:
    async with proxied() as (echo, proxy), connected(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.end_clients()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.write(b"still")
        await writer.drain()
        for _ in range(100):
            if sum(echo.sizes) == 6:
                break
            await asyncio.sleep(0.01)
        assert sum(echo.sizes) == 6


async def test_a_refusing_proxy_resets_new_connections() -> None:
    async with proxied() as (echo, proxy):
        proxy.refusing = True
        async with connected(proxy) as (reader, _writer):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
            assert not echo.sizes


# -- namespaces --------------------------------------------------------------------------------

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7000))
print("ready", flush=True)
peer, _ = server.accept()
while data := peer.recv(65536):
    peer.sendall(data)
"""


def test_a_cut_cable_drops_packets_silently_and_a_mended_one_delivers_them() -> None:
    """A peer that vanishes sends neither FIN nor RST; only a real network can show that."""
    if why := namespaces.missing():
        pytest.skip(why)
    with Namespace() as space:
        command = space.command(sys.executable, "-c", ECHO, space.address)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                with socket.create_connection((space.address, 7000), 5) as sock:
                    sock.sendall(b"one")
                    assert sock.recv(9) == b"one"
                    space.cut()
                    sock.settimeout(0.3)
                    sock.sendall(b"two")
                    with pytest.raises(TimeoutError):
                        sock.recv(9)
                    space.mend()
                    sock.settimeout(20)
                    assert sock.recv(9) == b"two"
                    space.limit(400)
                    began = time.monotonic()
                    sock.sendall(b"x" * 20_000)
                    got = 0
                    while got < 20_000:
                        got += len(sock.recv(65_536))
                    assert time.monotonic() - began > 0.2
            finally:
                process.kill()
