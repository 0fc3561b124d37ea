"""How a server goes: drained, hurried, and with a sick model."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from tests.support.clients import Client, run, stream, subscriber
from tests.support.running import Gate, Server, running_server, started_server
from tests.support.utterances import talk


def test_sigterm_during_model_load(tmp_path: Path) -> None:
    """A load that cannot be interrupted does not hold up the exit."""
    gate = Gate(tmp_path / "loading")
    gate.shut()
    env = {"EMOTEST_LOADING": str(gate.path)}
    with started_server(model="tests.support.plugins:loading", env=env) as server:
        server.listens()
        server.signal()
        before = time.monotonic()
        assert server.exit(5) == 0
        assert time.monotonic() - before < 2
        assert not server.noise, server.noise


def test_sigint_is_sigterm() -> None:
    with running_server() as server:
        server.signal(signal.SIGINT)
        assert server.exit(5) == 0, server.log()


async def told_to_go(client: Client) -> None:
    """The producer hears why, gets its tail and its totals, and 1012."""
    assert await client.closed(10) == 1012, str(client)
    kinds = [event["type"] for event in client.events]
    error = client.events[kinds.index("error")]
    assert (error["code"], error["fatal"], error["retryable"]) == ("draining", True, True)
    assert error["retry_after_s"] > 0
    closed = client.events[-1]
    assert (closed["type"], closed["reason"]) == ("session.closed", "draining")
    assert kinds.count("session.closed") == 1


async def talking(client: Client, stop: asyncio.Event) -> None:
    """A call goes on whatever the server does."""
    voice = talk(20)
    with contextlib.suppress(ConnectionClosed):
        while not stop.is_set():
            piece, voice = voice[:3200], voice[3200:]
            await client.socket.send(piece)
            await asyncio.sleep(0.1)


def test_sigterm_with_live_calls() -> None:
    """Tails are scored and told, clients learn why, probes see 503 meanwhile, the exit is 0.

    The port was closed first, so /readyz and new streams got "connection refused" for as long as
    the calls drained, and the answers that the router has for that time were never given.
    """

    async def session(server: Server) -> None:
        stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(stream(server)) for _ in range(3)]
            parked = await stack.enter_async_context(stream(server, stream_id="parked"))
            listener = await stack.enter_async_context(subscriber(server))
            tasks = [asyncio.create_task(talking(call, stop)) for call in calls]
            await parked.audio(talk(0.5))
            await parked.until("speech.start")
            await parked.abort()
            for call in calls:
                await call.until("speech.start")
            server.signal()
            await asyncio.to_thread(server.line, "draining", 2)
            before = time.monotonic()
            try:
                status = (await asyncio.to_thread(server.get, "/readyz"))[0]
            except OSError as error:
                print(f"readyz: {error}")
                status = -1
            for call in calls:
                await told_to_go(call)
                segment = call.of("emotion.segment")[-1]
                assert segment["trigger"] == "flush"
                assert segment["covered"] > 0.9
            assert await listener.closed(5) == 1012
            assert [e["code"] for e in listener.of("error") if "stream_id" not in e] == ["draining"]
            ended = listener.of("session.closed")
            assert sorted(e["reason"] for e in ended) == ["draining"] * 4
            stop.set()
            await asyncio.gather(*tasks)
            assert await asyncio.to_thread(server.exit, 10) == 0, server.log()
            assert time.monotonic() - before < 5
            assert not server.noise, server.noise
            ready_status.append(status)

    ready_status: list[int] = []
    args = ("--set", "server.drain_timeout_s=5")
    slow = {"model": "tests.support.plugins:slow", "env": {"EMOTEST_SLEEP_S": "0.3"}}
    with running_server(*args, **slow) as server:
        run(session(server))
    assert ready_status == [503], "readyz answers while calls drain (-1: nobody listened)"


def test_drain_ends_in_time_when_the_model_does_not_answer(tmp_path: Path) -> None:
    """The tails cannot be scored: clients are told what is lost, and closed, and the exit is 0.

    The drain ran into its limit, cancelled everybody's goodbye on the way, and left all clients
    with a dead connection and neither `session.closed` nor 1012.
    """
    gate = Gate(tmp_path / "block")

    async def session(server: Server) -> None:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            before = time.monotonic()
            server.signal()
            code = await call.closed(6)
            assert await asyncio.to_thread(server.exit, 5) == 0
            assert time.monotonic() - before < 3.5
            assert call.of("error")[0]["code"] == "draining"
            assert code == 1012
            assert call.events[-1]["type"] == "session.closed"
            assert call.events[-1]["totals"]["dropped_ms"] > 1000

    args = ("--set", "server.drain_timeout_s=2.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        run(session(server))


def test_second_signal_leaves_at_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "block")

    async def session(server: Server) -> None:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            server.signal()
            await asyncio.to_thread(server.line, "draining", 2)
            await asyncio.sleep(0.2)
            assert not server.ended
            before = time.monotonic()
            server.signal()
            assert await asyncio.to_thread(server.exit, 3) == 130
            assert time.monotonic() - before < 1

    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(model="tests.support.plugins:blocked", env=env) as server:
        run(session(server))


def test_a_connection_that_never_asked_for_anything_is_closed_at_the_end() -> None:
    """Browsers connect in advance. Such a connection was left open, with a warning on stderr."""
    with running_server() as server, socket.create_connection((server.host, server.port)) as idle:
        time.sleep(0.1)
        server.signal()
        assert server.exit() == 0
        assert not server.noise
        idle.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
