"""Waiting for a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from stream.inference.slot import _wait
from tests.support.scheduling import (
    running_harness,
)


@pytest.mark.parametrize("ticks", range(4))
async def test_a_cancellation_is_not_lost_when_the_event_is_set_at_the_same_time(
    ticks: int,
) -> None:
    """A cancelled recording continued, and its client waited, if the scheduler took its window at
    the same moment: `asyncio.wait_for` of Python 3.11 then loses the cancellation."""

    event = asyncio.Event()
    waiting = asyncio.create_task(_wait(event, 10.0))
    await asyncio.sleep(0.01)
    event.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_waiting_for_an_event_ends_at_its_timeout() -> None:
    async def wait() -> tuple[bool, bool]:
        event = asyncio.Event()
        before = await _wait(event, 0.01)
        event.set()
        return before, await _wait(event, 0.01)

    assert await wait() == (False, True)


async def test_waiting_for_a_slot_ends_at_its_timeout() -> None:
    async with running_harness() as harness:
        _, slot = await harness.hold()
        checks: list[Awaitable[bool]] = [slot.wait_idle(0.02), slot.wait_idle(0)]
        assert not any([await check for check in checks])
        assert await slot.wait_free(0)
