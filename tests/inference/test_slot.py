"""Waiting for a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from stream.inference.slot import _within
from tests.support.scheduling import (
    Bench,
    play,
)


@pytest.mark.parametrize("ticks", range(4))
def test_a_cancellation_is_never_lost_to_a_turn_that_comes_with_it(ticks: int) -> None:
    """A cancelled recording went on, and its client waited, when the batcher took its window in the
    same moment: `asyncio.wait_for` of Python 3.11 then returns as if nobody had cancelled."""

    async def race() -> None:
        turn = asyncio.Event()
        waiting = asyncio.create_task(_within(turn, 10.0))
        await asyncio.sleep(0.01)
        turn.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(race())


def test_waits_no_longer_than_it_may() -> None:
    async def wait() -> tuple[bool, bool]:
        turn = asyncio.Event()
        never = await _within(turn, 0.01)
        turn.set()
        return never, await _within(turn, 0.01)

    assert asyncio.run(wait()) == (False, True)


def test_waiting_for_a_slot_ends_at_its_limit() -> None:
    async def story(bench: Bench) -> None:
        _, slot = await bench.hold()
        checks: list[Awaitable[bool]] = [slot.idle(0.02), slot.idle(0)]
        assert not any([await check for check in checks])
        assert await slot.free(0)

    play(story)
