"""The scheduler with an engine in another process, whose answers come in any order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from stream.config import Config
from stream.inference.scheduler import Scheduler
from stream.protocol.messages import SessionConfig
from tests.support.plugins import LENGTHS, Fast
from tests.support.remote_engine import RemoteEngine
from tests.support.remote_worker import HANGS
from tests.support.scheduling import RecordingListener, idle, until, window
from tests.support.sessions import Sessions
from tests.support.utterances import talk


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[RemoteEngine, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.remote_worker",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield RemoteEngine(int(await process.stdout.readline())), process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def scheduler(engine: RemoteEngine, hang_s: float = 10.0) -> AsyncIterator[Scheduler]:
    running = Scheduler(engine, 0.0, hang_s)
    await running.start(LENGTHS)
    try:
        yield running
    finally:
        await running.stop(1.0)


async def test_every_channel_gets_its_scores_in_order_although_batches_overtake_each_other() -> (
    None
):
    """A channel whose second window was answered before its first ended an utterance without its
    last frames."""

    async with worker() as (engine, _), scheduler(engine) as running:

        async def stream(number: int) -> RecordingListener:
            listener = RecordingListener()
            slot = running.slot(listener)
            for turn in range(8):
                slot.offer(window((number * 8 + turn) / 1000, LENGTHS[0], end=turn * 16_000))
                await until(lambda: not slot.waiting)
            await idle(slot)
            return listener

        listeners = await asyncio.gather(*(stream(number) for number in range(30)))
    for number, listener in enumerate(listeners):
        marks = [round(float(scores.window.audio[0]) * 1000) for scores in listener.scored]
        assert marks == [number * 8 + turn for turn in range(8)]
        for scores in listener.scored:
            np.testing.assert_allclose(
                scores.logits, Fast().infer(scores.window.audio[None])[0], atol=1e-6
            )
    assert engine.order != sorted(engine.order), "no batch overtook another"


async def test_a_batch_that_is_never_answered_is_lost_and_others_go_on() -> None:
    """Another process can be left alone with its work: this one goes on, and does not exit."""

    async with worker() as (engine, _), scheduler(engine, hang_s=0.3) as running:
        stuck, good = RecordingListener(), RecordingListener()
        stuck_slot, good_slot = running.slot(stuck), running.slot(good)
        stuck_slot.offer(window(HANGS, LENGTHS[0]))
        await until(lambda: bool(stuck.taken))
        for number in range(3):
            good_slot.offer(window(number / 1000, LENGTHS[0]))
            await idle(good_slot)
        assert not stuck.failed
        await idle(stuck_slot)
        assert [reason for _, reason in stuck.failed] == ["inference_timeout"]
        assert len(good.scored) == 3
        assert running.trouble is None
        assert not running.hang_is_fatal


async def test_a_worker_that_dies_loses_its_batches_and_is_reported() -> None:
    async with worker() as (engine, process), scheduler(engine) as running:
        listener = RecordingListener()
        slot = running.slot(listener)
        slot.offer(window(HANGS, LENGTHS[0]))
        await until(lambda: bool(listener.taken))
        process.kill()
        await idle(slot)
        for _ in range(2):
            slot.offer(window(0.1, LENGTHS[0]))
            await idle(slot)
        assert [reason for _, reason in listener.failed] == ["inference_failed"] * 3
        await until(lambda: running.trouble == "the last 3 batches failed")


@pytest.mark.parametrize("embeddings", [False, True], ids=["scores", "with embeddings"])
async def test_a_session_is_scored_elsewhere(embeddings: bool) -> None:
    async with worker() as (engine, _), scheduler(engine) as running:
        sessions = Sessions(scheduler=running, config=Config())
        analysis = {"embeddings": embeddings}
        session, connection = await sessions.open(
            request=SessionConfig.model_validate({"analysis": analysis})
        )
        session.audio(talk(4.0))
        await sessions.registry.finish(session, "completed")
    types = connection.types()
    assert "emotion.score" in types
    assert "stream.gap" not in types
    assert types[-1] == "session.closed"
