"""Shutdown: drain, forced exit, and a failing model."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from tests.support.clients import Client, stream, subscriber
from tests.support.running import Gate, running_server, started_server
from tests.support.utterances import talk


def test_sigterm_during_model_load_exits_at_once(tmp_path: Path) -> None:
    """A model load that cannot be interrupted does not delay the exit."""
    gate = Gate(tmp_path / "loading")
    gate.shut()
    env = {"EMOTEST_LOADING": str(gate.path)}
    with started_server(model="tests.support.plugins:loading", env=env) as server:
        server.wait_for_port()
        server.signal()
        assert server.exit() == 0, "the load would last for ever"
        assert not server.non_json, server.non_json


def test_sigint_is_handled_like_sigterm() -> None:
    with running_server() as server:
        server.signal(signal.SIGINT)
        assert server.exit() == 0, server.log()


async def check_drained(client: Client) -> None:
    """Check that a producer received the error, `session.closed` and close code 1012."""
    assert await client.closed() == 1012, str(client)
    kinds = [event["type"] for event in client.events]
    error = client.events[kinds.index("error")]
    assert (error["code"], error["fatal"], error["retryable"]) == ("draining", True, True)
    assert error["retry_after_s"] > 0
    closed = client.events[-1]
    assert (closed["type"], closed["reason"]) == ("session.closed", "draining")
    assert kinds.count("session.closed") == 1


async def send_speech(client: Client, stop: asyncio.Event) -> None:
    """Send speech in real time until `stop` is set, even after the server closed."""
    audio = talk(20)
    with contextlib.suppress(ConnectionClosed):
        while not stop.is_set():
            piece, audio = audio[:3200], audio[3200:]
            await client.socket.send(piece)
            await asyncio.sleep(0.1)


async def test_sigterm_with_live_calls() -> None:
    """Tails are scored, clients receive `draining`, /readyz is 503 meanwhile, the status is 0.

    The port was closed first, so /readyz and new streams got "connection refused" while the calls
    drained, instead of the router's responses for that time.
    """

    args = ("--set", "server.drain_timeout_s=20")
    slow = {"model": "tests.support.plugins:slow", "env": {"EMOTEST_SLEEP_S": "0.3"}}

    with running_server(*args, **slow) as server:
        stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(stream(server)) for _ in range(3)]
            detached = await stack.enter_async_context(stream(server, stream_id="detached"))
            listener = await stack.enter_async_context(subscriber(server))
            tasks = [asyncio.create_task(send_speech(call, stop)) for call in calls]
            await detached.audio(talk(0.5))
            await detached.until("speech.start")
            await detached.abort()
            for call in calls:
                await call.until("speech.start")

            server.signal()
            await asyncio.to_thread(server.line, "draining")
            before = time.monotonic()
            try:
                status = (await asyncio.to_thread(server.get, "/readyz"))[0]
            except OSError as error:
                print(f"readyz: {error}")
                status = -1

            for call in calls:
                await check_drained(call)
                segment = call.of("emotion.segment")[-1]
                assert segment["trigger"] == "flush"
                assert segment["covered"] > 0.9
            assert await listener.closed() == 1012
            assert [e["code"] for e in listener.of("error") if "stream_id" not in e] == ["draining"]
            closed = listener.of("session.closed")
            assert sorted(e["reason"] for e in closed) == ["draining"] * 4

            stop.set()
            await asyncio.gather(*tasks)
            assert await asyncio.to_thread(server.exit) == 0, server.log()
            assert time.monotonic() - before < 20, "it did not wait for the time limit"
            assert not server.non_json, server.non_json
    assert status == 503, "readyz responds while calls drain (-1: connection refused)"


async def test_a_drain_ends_in_time_if_the_model_hangs(tmp_path: Path) -> None:
    """The tails cannot be scored: clients get what was lost and a close, and the status is 0.

    The drain reached its time limit and cancelled the closing of all connections, so clients got
    a broken connection and neither `session.closed` nor 1012.
    """
    gate = Gate(tmp_path / "block")
    args = ("--set", "server.drain_timeout_s=2.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}

    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            await call.until(lambda event: event.get("received_ms", 0) >= 2500)

            server.signal()
            code = await call.closed()
            assert await asyncio.to_thread(server.exit) == 0, "the model hangs for ever"

            assert call.of("error")[0]["code"] == "draining"
            assert code == 1012
            assert call.events[-1]["type"] == "session.closed"
            assert call.events[-1]["totals"]["dropped_ms"] > 1000


async def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "block")
    env = {"EMOTEST_BLOCK": str(gate.path)}

    args = ("--set", "server.drain_timeout_s=60")
    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            server.signal()
            await asyncio.to_thread(server.line, "draining")
            await asyncio.sleep(0.2)
            assert not server.ended

            server.signal()
            assert await asyncio.to_thread(server.exit) == 130


def test_a_connection_without_a_request_is_closed_on_shutdown() -> None:
    """Browsers connect in advance. Such connections were left open, with a warning on stderr."""
    with running_server() as server, socket.create_connection((server.host, server.port)) as idle:
        time.sleep(0.1)
        server.signal()
        assert server.exit() == 0
        assert not server.non_json
        idle.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
