"""Rows of docs/reliability.md about the network: peers that vanish, many that return at once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support import namespaces
from tests.support.clients import Client, connect, stream
from tests.support.namespaces import Namespace
from tests.support.running import Server, running_server
from tests.support.tcp_proxy import TcpProxy
from tests.support.utterances import encode, same_utterances, speech, talk, utterances

RETURNING = 60
"""Producers of row 28 in `make test`; `make soak` has 300."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.idle_timeout_s=2") as running:
        yield running


@contextlib.contextmanager
def through(server: Server, proxy: TcpProxy) -> Iterator[Server]:
    """Let clients that are made in this block connect through the proxy."""
    url = server.url
    server.url = f"http://127.0.0.1:{proxy.port}/"
    try:
        yield server
    finally:
        server.url = url


async def until_closed(server: Server, fds: int, timeout: float = 8.0) -> None:
    """Wait until the server has fewer descriptors than `fds`."""
    deadline = time.monotonic() + timeout
    while server.fds() >= fds:
        assert time.monotonic() < deadline, f"{server.fds()} descriptors: {server.log()}"
        await asyncio.sleep(0.05)


async def until_attached(server: Server, stream_id: str) -> bool:
    for _ in range(200):
        streams = (await asyncio.to_thread(server.json, "/v1/streams"))["streams"]
        if any(s["stream_id"] == stream_id for s in streams):
            return True
        await asyncio.sleep(0.05)
    return False


CALLER = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1]) as socket:
        while True:
            await socket.send(bytes(3200))
            await asyncio.sleep(0.1)

asyncio.run(main())
"""


async def caller(space: Namespace, server: Server, stream_id: str) -> asyncio.subprocess.Process:
    """Start a producer inside the namespace."""
    url = f"{server.ws}/v1/stream?sample_rate=16000&stream_id={stream_id}"
    command = space.command(sys.executable, "-c", CALLER, url)
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)


async def resume(server: Server, client: Client, stack: contextlib.AsyncExitStack) -> Client:
    """Return a connection, open until `stack` ends, that has reattached `client`'s session."""
    query = {"resume": client.token, "last_seq": client.events[-1]["seq"]}
    again = await stack.enter_async_context(connect(server, query=query))
    again.checks = False
    await again.until("session.resumed")
    return again


async def test_row_04_a_half_open_producer_is_detached_and_may_resume(server: Server) -> None:
    """The network of a phone loses its packets: no FIN, no RST, no pong, only silence.

    Its slot is freed within the idle timeout, and it returns with its token and loses nothing.
    """
    data = encode(speech())
    half = len(data) // 2 // 3200 * 3200
    async with TcpProxy(server.port) as proxy:
        with through(server, proxy):
            async with stream(server, stream_id="phone") as before:
                await before.audio(data[:half])
                await before.until("audio.ack")
                fds = server.fds()
                proxy.stall()
                await until_closed(server, fds)
                query = {"resume": before.token, "last_seq": before.events[-1]["seq"]}
        async with connect(server, query=query) as after:
            resumed = await after.until("session.resumed")
            await after.audio(data[2 * resumed["received_samples"] :])
            await after.close_session()
    async with stream(server) as whole:
        await whole.audio(data)
        await whole.close_session()
    assert same_utterances(utterances(before.events + after.events), utterances(whole.events))


async def test_row_04_a_producer_behind_a_cut_cable_is_detached() -> None:
    """The same on a real network: the server's packets and the client's vanish in both directions.

    The server closes the connection although no packet confirms it, and no descriptor is left.
    """
    if why := namespaces.missing():
        pytest.skip(why)
    with Namespace() as space:
        # Without keys a server serves local names only; an address of the namespace is foreign.
        args = ("--set", "limits.idle_timeout_s=2", "--set", f"server.host={space.outside}")
        with running_server(*args) as server:
            server.host = space.outside
            client = await caller(space, server, "cut")
            try:
                assert await until_attached(server, "cut")
                fds = server.fds()
                space.cut()
                await until_closed(server, fds, 12)
            finally:
                client.kill()
                await client.wait()


async def test_row_08_a_message_in_one_byte_pieces_is_read_like_a_whole_one(server: Server) -> None:
    """A path with a tiny segment size delivers a handshake and frames byte by byte."""
    data = talk(1.0)[:16_000]
    async with TcpProxy(server.port) as proxy:
        proxy.up.piece = 1
        with through(server, proxy):
            async with stream(server) as client:
                await client.audio(data)
                closed = await client.close_session(30)
    assert closed["totals"]["audio_ms"] == 500


async def test_row_28_many_producers_that_drop_and_return_together_lose_nothing() -> None:
    """A switch restarts under a call centre: all connections are reset, and all return at once."""
    data = encode(speech())[: 3 * 32_000]
    limits = ("--set", "limits.ahead_s=1000")
    with running_server(*limits) as server:
        async with TcpProxy(server.port) as proxy, contextlib.AsyncExitStack() as stack:
            with through(server, proxy):
                before = [
                    await stack.enter_async_context(stream(server, stream_id=f"call-{number}"))
                    for number in range(RETURNING)
                ]
                for client in before:
                    client.checks = False
                    await client.audio(data, 32_000)
                for client in before:
                    await client.until(lambda e: e.get("received_samples", 0) >= 16_000)
                proxy.reset()
                await asyncio.gather(*(client.reader for client in before))
                began = time.monotonic()
                after = await asyncio.gather(*(resume(server, client, stack) for client in before))
                took = time.monotonic() - began
            for old, new in zip(before, after, strict=True):
                resumed = new.of("session.resumed")[0]
                await new.audio(data[2 * resumed["received_samples"] :], 32_000)
                closed = await new.close_session()
                assert closed["totals"]["audio_ms"] == 3000
                seqs = [e["seq"] for e in old.events + new.events if "seq" in e]
                assert sorted(set(seqs)) == list(range(max(seqs) + 1)), "an event is missing"
            assert took < 20, f"{took:.1f} s"
        assert server.metric("emotide_resumes_total") == RETURNING
