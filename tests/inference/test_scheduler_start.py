"""A batcher warms its model up, refuses one that is no good, and stops."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from stream.inference.scheduler import Scheduler
from tests.support.scheduling import (
    LONG,
    SHORT,
    Bench,
    Gate,
    all_idle,
    play,
    until,
    window,
)
from tests.support.signals import model


def test_every_shape_is_warmed_up_the_largest_first() -> None:
    async def story() -> None:
        bench = Bench()
        assert bench.scheduler.warm_up.share == 0
        info = await bench.scheduler.start([SHORT, LONG])
        assert info is bench.backend.info
        shapes = [(size, length) for length in (LONG, SHORT) for size in (5, 2, 1)]
        assert bench.backend.shapes == shapes
        assert bench.scheduler.warm_up.share == 1.0
        assert bench.scheduler.trouble is None
        await bench.scheduler.stop(5)

    asyncio.run(story())


def test_sizes_beyond_the_configured_batch_are_neither_warmed_nor_used() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert {size for size, _ in bench.backend.shapes} <= {1, 2}

    play(story, max_batch=3)


def test_sizes_that_do_not_fit_into_memory_are_not_used() -> None:
    """A card with less memory than `model.max_batch` needs serves smaller batches."""

    async def story() -> None:
        bench = Bench()
        bench.backend.memory = 2
        await bench.scheduler.start([SHORT, LONG])
        assert bench.backend.shapes == [(5, LONG), (2, LONG), (1, LONG), (2, SHORT), (1, SHORT)]
        assert bench.scheduler.warm_up.share == 1.0
        await bench.scheduler.stop(5)

    asyncio.run(story())


def test_a_model_of_which_not_one_window_fits_does_not_start() -> None:
    async def story() -> None:
        bench = Bench()
        bench.backend.memory = 0
        with pytest.raises(MemoryError):
            await bench.scheduler.start([SHORT, LONG])

    asyncio.run(story())


@pytest.mark.parametrize("error", [FileNotFoundError("no model"), SystemExit(3), MemoryError()])
def test_what_goes_wrong_while_loading_is_raised_by_start(error: BaseException) -> None:
    def load() -> Any:
        raise error

    async def story() -> None:
        scheduler = Scheduler(load, 4, 0.0, 10.0)
        with pytest.raises(type(error)):
            await scheduler.start([SHORT])
        await scheduler.stop(1)

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        lambda logits: logits[0],
        lambda logits: logits[:1, :, 0],
        lambda logits: np.concatenate([logits, logits]),
        lambda logits: logits * np.nan,
    ],
    ids=["one row", "no labels", "too many rows", "NaN"],
)
def test_a_model_that_answers_nonsense_is_refused_at_the_start(answer) -> None:
    async def story() -> None:
        bench = Bench()
        bench.backend.answer = answer
        with pytest.raises(RuntimeError, match="expected finite"):
            await bench.scheduler.start([SHORT])
        await bench.scheduler.stop(1)

    asyncio.run(story())


def test_stopping_ends_the_thread_and_what_waits_is_not_scored() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.scheduler.start([SHORT])
        busy, _ = await bench.hold()
        ear, slot = bench.slot()
        slot.offer(window())
        stopping = asyncio.create_task(bench.scheduler.stop(5))
        await asyncio.sleep(0.02)
        bench.backend.open.set()
        await stopping
        assert not bench.scheduler._thread.is_alive()
        await until(lambda: bool(busy.scored_))
        assert (ear.taken_, ear.scored_, ear.failed_) == ([], [], [])

    asyncio.run(story())


def test_it_can_be_stopped_before_it_was_started() -> None:
    asyncio.run(Scheduler(lambda: Gate(model()), 4, 0.0, 10.0).stop(1))
