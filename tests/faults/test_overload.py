"""A model that is blocked, slow, wrong or poisoned: the rest goes on, and losses are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.support.clients import Client, run, stream, subscriber
from tests.support.running import Gate, Server, running_server
from tests.support.utterances import clip, talk

QUIET = (np.frombuffer(talk(60.0), np.int16) // 2).tobytes()
"""Speech without poison in it: no sample above half of full scale."""

POISON = clip("03a01Wa.flac")


async def ready(server: Server) -> bool:
    return (await asyncio.to_thread(server.get, "/readyz"))[0] == 200


async def becomes(server: Server, wanted: bool, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while await ready(server) is not wanted:
        body = orjson.loads((await asyncio.to_thread(server.get, "/readyz"))[2])
        assert time.monotonic() < deadline, f"not {'ready' if wanted else 'unready'}: {body}"
        await asyncio.sleep(0.05)


async def feed(client: Client, seconds: float, speed: float = 1.0, since: float = 0.0) -> None:
    """Speech at `speed` times real time, from `since` seconds on."""
    begin = int(since * 32_000)
    await client.audio(QUIET[begin : begin + int(seconds * 32_000)], 3200, 0.1 / speed)


async def pings(client: Client, seconds: float) -> float:
    """The slowest answer to a ping."""
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.wait_for(await client.socket.ping(), 5)
        worst = max(worst, time.monotonic() - before)
        await asyncio.sleep(0.1)
    return worst


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "block")


@pytest.fixture
def blocked(gate: Gate) -> Iterator[Server]:
    """Blocked while the gate is shut; taken for hung after a second and a half."""
    args = ("--set", "model.hang_timeout_s=1.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(*args, model="tests.support.plugins:blocked", env=env) as server:
        server.tidy = False
        yield server
        gate.open()


def test_the_reader_never_waits_for_the_model(blocked: Server, gate: Gate) -> None:
    """Blocked for three seconds: pongs come, the hang is seen, what is lost is told, all is back.

    (FunASR#3528: a reader that waits for inference lets pings unread, and the peer hangs up.)
    """

    async def session() -> None:
        async with stream(blocked) as call, subscriber(blocked) as listener:
            await feed(call, 1.5, speed=2)
            await call.until("emotion.score")
            memory = blocked.rss()
            gate.shut()
            talking = asyncio.create_task(feed(call, 5.5, since=1.5))
            slowest = asyncio.create_task(pings(call, 3.0))
            await becomes(blocked, False, 4)
            assert await slowest < 0.5
            gate.open()
            await becomes(blocked, True, 2)
            await talking
            closed = await call.close_session()
            assert blocked.rss() - memory < 30_000_000
            gaps = call.of("stream.gap")
            assert "inference_timeout" in {gap["reason"] for gap in gaps}
            lost = sum(gap["missing_ms"] for gap in gaps)
            assert closed["totals"]["dropped_ms"] == pytest.approx(lost, abs=5)
            after = [e for e in call.of("emotion.score") if e["audio_end_ms"] > 5500]
            assert after, "scores come again"
            await listener.until("session.closed")
            assert len(listener.of("stream.gap")) == len(gaps)

    run(session())


def test_a_short_block_is_covered_by_the_elastic_hop(blocked: Server, gate: Gate) -> None:
    """Less than a window's length: the next window reaches back, and nothing is lost."""

    async def session() -> None:
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

    run(session())


@pytest.mark.parametrize("word", ["input.flush", "input.pause"])
def test_a_flush_does_not_wait_for_the_model_either(blocked: Server, gate: Gate, word: str) -> None:
    """`input.flush` and `input.pause` waited up to `ahead_s` for a free slot, pings unread."""

    async def session() -> None:
        async with stream(blocked) as call:
            gate.shut()
            await feed(call, 2.6, speed=2)
            await call.say(word)
            talking = asyncio.create_task(call.audio(QUIET[:48_000], 640, 0.02))
            assert await pings(call, 1.2) < 0.5
            gate.open()
            await talking

    run(session())


def test_a_poisoned_row_fails_alone() -> None:
    """In a batch with others it costs them nothing; afterwards the server is as ready as before.

    After three failed batches in a row, with nobody else talking, the server stayed unready for
    ever: it waits for a batch that succeeds, and no balancer sends it one.
    """

    async def session(server: Server) -> None:
        healthy = [stream(server) for _ in range(3)]
        async with healthy[0] as a, healthy[1] as b, healthy[2] as c, stream(server) as bad:
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

    with running_server(model="tests.support.plugins:poisoned") as server:
        server.tidy = False
        run(session(server))


def test_one_poisoned_call_does_not_take_the_server_out_of_rotation() -> None:
    """Three failed batches in a row, nobody else talking: /readyz said 503 from then on.

    It waits for a batch that succeeds; no balancer sends a stream to a server that is not ready.
    """

    async def session(server: Server) -> None:
        async with stream(server) as bad:
            await bad.audio(np.tile(POISON, 4)[: 16_000 * 6].tobytes(), 3200, 0.04)
            await bad.close_session()
            assert len(bad.of("stream.gap")) >= 3
        await becomes(server, True, 3)

    with running_server(model="tests.support.plugins:poisoned") as server:
        server.tidy = False
        run(session(server))


def test_a_model_that_answers_nan() -> None:
    """No score is made up: gaps say `inference_failed`, segments have none, probes see it."""

    async def session(server: Server) -> None:
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

    with running_server(model="tests.support.plugins:nan") as server:
        server.tidy = False
        run(session(server))


def test_twenty_streams_share_a_slow_model_fairly() -> None:
    """It scores four windows each 0.4 s, half of what is asked: everybody gets a like share."""

    async def session(server: Server) -> None:
        async def talks() -> Client:
            async with stream(server) as client:
                await feed(client, 5)
                await client.close_session(20)
                return client

        clients = await asyncio.gather(*(talks() for _ in range(20)))
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

    env = {"EMOTEST_SLEEP_S": "0.4", "EMOTEST_SIZE": "4"}
    with running_server(model="tests.support.plugins:slow", env=env) as server:
        run(session(server), 40)
