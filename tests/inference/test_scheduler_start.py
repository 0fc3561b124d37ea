"""Start and stop of the scheduler: warm-up, refusal of a broken model, end of the thread."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import Scheduler
from tests.support.scheduling import (
    LONG,
    SHORT,
    ControlledBackend,
    Harness,
    Transform,
    idle,
    running_harness,
    until,
    window,
)
from tests.support.signals import model


async def test_every_shape_is_warmed_up_largest_first() -> None:
    harness = Harness()
    assert harness.scheduler.warm_up.share == 0
    info = await harness.scheduler.start([SHORT, LONG])
    assert info is harness.backend.info
    shapes = [(size, length) for length in (LONG, SHORT) for size in (5, 2, 1)]
    assert harness.backend.shapes == shapes
    assert harness.scheduler.warm_up.share == 1.0
    assert harness.scheduler.trouble is None
    await harness.scheduler.stop(5)


async def test_without_lengths_those_that_the_model_prefers_are_warmed_up() -> None:
    harness = Harness()
    await harness.scheduler.start([])
    assert {length for _, length in harness.backend.shapes} == set(harness.backend.info.lengths)
    await harness.scheduler.stop(5)


async def test_sizes_beyond_the_configured_batch_are_neither_warmed_nor_used() -> None:
    async with running_harness(max_batch=3) as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert {size for size, _ in harness.backend.shapes} <= {1, 2}


async def test_batch_sizes_that_do_not_fit_into_memory_are_not_used() -> None:
    """A GPU with less memory than `model.max_batch` needs gets smaller batches."""

    harness = Harness()
    harness.backend.max_rows = 2
    await harness.scheduler.start([SHORT, LONG])
    assert harness.backend.shapes == [(5, LONG), (2, LONG), (1, LONG), (2, SHORT), (1, SHORT)]
    assert harness.scheduler.warm_up.share == 1.0
    await harness.scheduler.stop(5)


async def test_start_raises_if_a_single_window_does_not_fit_into_memory() -> None:
    harness = Harness()
    harness.backend.max_rows = 0
    with pytest.raises(MemoryError):
        await harness.scheduler.start([SHORT, LONG])


@pytest.mark.parametrize("error", [FileNotFoundError("no model"), SystemExit(3), MemoryError()])
async def test_start_raises_errors_of_loading(error: BaseException) -> None:
    def load() -> Any:
        raise error

    scheduler = Scheduler(ThreadEngine(load, 4), 0.0, 10.0)
    with pytest.raises(type(error)):
        await scheduler.start([SHORT])
    await scheduler.stop(1)


@pytest.mark.parametrize(
    "transform",
    [
        lambda logits: logits[0],
        lambda logits: logits[:1, :, 0],
        lambda logits: np.concatenate([logits, logits]),
        lambda logits: logits * np.nan,
    ],
    ids=["one row", "no labels", "too many rows", "NaN"],
)
async def test_start_refuses_a_model_with_logits_of_a_wrong_shape_or_nan(
    transform: Transform,
) -> None:
    harness = Harness()
    harness.backend.transform = transform
    with pytest.raises(RuntimeError, match="expected finite"):
        await harness.scheduler.start([SHORT])
    await harness.scheduler.stop(1)


async def test_stop_ends_the_thread_and_does_not_score_waiting_windows() -> None:
    harness = Harness()
    await harness.scheduler.start([SHORT])
    busy, _ = await harness.hold()
    listener, slot = harness.slot()
    slot.offer(window())
    stopping = asyncio.create_task(harness.scheduler.stop(5))
    await asyncio.sleep(0.02)
    harness.backend.release()
    await stopping
    assert not harness.scheduler.alive
    await until(lambda: bool(busy.scored))
    assert (listener.taken, listener.scored, listener.failed) == ([], [], [])


async def test_stop_before_start_does_nothing() -> None:
    engine = ThreadEngine(lambda: ControlledBackend(model()), 4)
    await Scheduler(engine, 0.0, 10.0).stop(1)
