"""A model that is blocked, slow or wrong: the rest continues, and losses are reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.support.clients import Client, stream, subscriber
from tests.support.running import Gate, Server, running_server
from tests.support.utterances import clip, talk

QUIET = (np.frombuffer(talk(60.0), np.int16) // 2).tobytes()
"""Speech that the `poisoned` model scores: no sample above half of full scale."""

POISON = clip("03a01Wa.flac")


async def ready(server: Server) -> bool:
    return (await asyncio.to_thread(server.get, "/readyz"))[0] == 200


async def wait_until_ready(server: Server, expected: bool, timeout: float) -> None:
    """Wait until /readyz is 200 (`expected`) or 503."""
    deadline = time.monotonic() + timeout
    while await ready(server) is not expected:
        body = orjson.loads((await asyncio.to_thread(server.get, "/readyz"))[2])
        assert time.monotonic() < deadline, f"not {'ready' if expected else 'unready'}: {body}"
        await asyncio.sleep(0.05)


async def feed(client: Client, seconds: float, speed: float = 1.0, since: float = 0.0) -> None:
    """Send speech at `speed` times real time, from position `since` in seconds."""
    begin = int(since * 32_000)
    await client.audio(QUIET[begin : begin + int(seconds * 32_000)], 3200, 0.1 / speed)


async def pings(client: Client, seconds: float) -> float:
    """Ping for `seconds`; return the longest time to a pong in seconds."""
    longest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.wait_for(await client.socket.ping(), 5)
        longest = max(longest, time.monotonic() - before)
        await asyncio.sleep(0.1)
    return longest


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "block")


@pytest.fixture
def blocked(gate: Gate) -> Iterator[Server]:
    """A server whose model blocks while the gate is shut; counted as hung after 1.5 s."""
    args = ("--set", "model.hang_timeout_s=1.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        server.errors_expected = True
        yield server
        gate.open()


async def test_the_reader_never_waits_for_the_model(blocked: Server, gate: Gate) -> None:
    """The model blocks for 3 s: pongs are sent, /readyz is 503, gaps are reported, scores return.

    (FunASR#3528: a reader that waits for inference reads no pings, so the peer disconnects.)
    """

    async with stream(blocked) as call, subscriber(blocked) as listener:
        await feed(call, 1.5, speed=2)
        await call.until("emotion.score")
        memory = blocked.rss()
        gate.shut()
        feeding = asyncio.create_task(feed(call, 5.5, since=1.5))
        slowest = asyncio.create_task(pings(call, 3.0))
        await wait_until_ready(blocked, False, 4)
        assert await slowest < 0.5
        gate.open()
        await wait_until_ready(blocked, True, 2)
        await feeding
        closed = await call.close_session()
        assert blocked.rss() - memory < 30_000_000
        gaps = call.of("stream.gap")
        assert "inference_timeout" in {gap["reason"] for gap in gaps}
        lost = sum(gap["missing_ms"] for gap in gaps)
        assert closed["totals"]["dropped_ms"] == pytest.approx(lost, abs=5)
        after = [e for e in call.of("emotion.score") if e["audio_end_ms"] > 5500]
        assert after, "scores must return"
        await listener.until("session.closed")
        assert len(listener.of("stream.gap")) == len(gaps)


async def test_a_short_block_is_covered_by_the_elastic_hop(blocked: Server, gate: Gate) -> None:
    """The block is shorter than a window, so the next window covers it and nothing is lost."""

    async with stream(blocked) as call:
        await feed(call, 1.2, speed=2)
        gate.shut()
        await feed(call, 1.0, since=1.2)
        gate.open()
        await feed(call, 1.0, since=2.2)
        closed = await call.close_session()
        assert not call.of("stream.gap")
        assert closed["totals"]["dropped_ms"] == 0
        assert all(e["covered"] > 0.99 for e in call.of("emotion.segment"))


@pytest.mark.parametrize("control", ["input.flush", "input.pause"])
async def test_a_flush_does_not_wait_for_the_model(
    blocked: Server, gate: Gate, control: str
) -> None:
    """`input.flush` and `input.pause` waited up to `ahead_s` for a free slot and read no pings."""

    async with stream(blocked) as call:
        gate.shut()
        await feed(call, 2.6, speed=2)
        await call.send(control)
        feeding = asyncio.create_task(call.audio(QUIET[:48_000], 640, 0.02))
        assert await pings(call, 1.2) < 0.5
        gate.open()
        await feeding


async def test_a_poisoned_row_does_not_affect_its_batch() -> None:
    """Only the window that makes the model raise is lost; others of its batch are scored."""

    with running_server(model="tests.support.plugins:poisoned") as server:
        server.errors_expected = True
        good = [stream(server) for _ in range(3)]
        async with good[0] as a, good[1] as b, good[2] as c, stream(server) as bad:
            poison = np.tile(POISON, 3)[: 16_000 * 5].tobytes()
            await asyncio.gather(
                bad.audio(poison, 3200, 0.05), *(feed(x, 5, speed=2) for x in (a, b, c))
            )

            for client in (a, b, c):
                closed = await client.close_session()
                assert not client.of("stream.gap")
                assert closed["totals"]["scores"] >= 2
                assert closed["totals"]["dropped_ms"] == 0

            closed = await bad.close_session()
            reasons = {gap["reason"] for gap in bad.of("stream.gap")}
            assert "inference_failed" in reasons
            assert closed["totals"]["dropped_ms"] > 1000
        assert server.metric("emotide_windows_total", result="inference_failed") >= 1


async def test_a_poisoned_stream_alone_does_not_make_the_server_unready() -> None:
    """After three failed batches in a row without other streams, /readyz stayed 503 for ever.

    Only a successful batch made the server ready again, but no load balancer sends a stream to a
    server that is not ready.
    """

    with running_server(model="tests.support.plugins:poisoned") as server:
        server.errors_expected = True
        async with stream(server) as bad:
            await bad.audio(np.tile(POISON, 4)[: 16_000 * 6].tobytes(), 3200, 0.04)
            await bad.close_session()
            assert len(bad.of("stream.gap")) >= 3
        await wait_until_ready(server, True, 3)


async def test_a_model_that_returns_nan_gives_gaps() -> None:
    """Gaps have `inference_failed`, segments have no scores, and /readyz is 503."""

    with running_server(model="tests.support.plugins:nan") as server:
        server.errors_expected = True
        async with stream(server) as call:
            await feed(call, 4.5, speed=3)
            await call.until("stream.gap", 3)
            assert not await ready(server)
            closed = await call.close_session()

            assert not call.of("emotion.score")
            assert {gap["reason"] for gap in call.of("stream.gap")} == {"inference_failed"}
            assert [e["scores"] for e in call.of("emotion.segment")] == [{}]
            assert closed["summary"][0]["scores"] == {}
            assert closed["totals"]["dropped_ms"] == closed["totals"]["speech_ms"]


@pytest.mark.timeout(60)
async def test_twenty_streams_share_a_slow_model_fairly() -> None:
    """The model scores four windows per 0.4 s, half of the demand; all streams get equal shares."""

    async def call(server: Server) -> Client:
        async with stream(server) as client:
            await feed(client, 5)
            await client.close_session(20)
            return client

    env = {"EMOTEST_SLEEP_S": "0.4", "EMOTEST_SIZE": "4"}
    with running_server(model="tests.support.plugins:slow", env=env) as server:
        clients = await asyncio.gather(*(call(server) for _ in range(20)))

        scores = [client.events[-1]["totals"]["scores"] for client in clients]
        assert min(scores) >= 2, scores
        assert max(scores) <= 3 * min(scores), scores
        for client in clients:
            totals = client.events[-1]["totals"]
            lost = sum(gap["missing_ms"] for gap in client.of("stream.gap"))
            assert totals["dropped_ms"] == pytest.approx(lost, abs=5)
            latencies = [e["latency_ms"] for e in client.of("emotion.score")]
            assert max(latencies) < 5000, latencies
        await asyncio.sleep(0.3)
        assert server.metric("emotide_windows_waiting") == 0
