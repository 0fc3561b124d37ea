"""Turns of tenants in the scheduler: shares, batches, and the wait beside a tenant that floods."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import TURN_S, Scheduler
from stream.inference.slot import Slot, WindowQueue
from stream.inference.turns import RECENT_S, Turns
from tests.support.scheduling import (
    LONG,
    SHORT,
    ControlledBackend,
    RecordingListener,
    running_harness,
    window,
)
from tests.support.signals import model


def slots(*tenants: str) -> list[Slot]:
    queue = cast(WindowQueue, None)
    return [Slot(queue, RecordingListener(), tenant=tenant) for tenant in tenants]


def served(turns: Turns, waiting: dict[Slot, int], limit: int) -> list[str]:
    """Take one batch; return the tenants of its windows."""
    selected = turns.select(waiting, limit)
    turns.charge(selected, waiting[selected[0]], len(waiting) - len(selected))
    for slot in selected:
        del waiting[slot]
    return [slot.tenant for slot in selected]


def test_nothing_waits() -> None:
    assert Turns().select({}, 8) == []


def test_a_single_tenant_is_served_in_order_and_by_length() -> None:
    turns = Turns()
    waiting = dict(zip(slots(*"aaaa"), (SHORT, LONG, SHORT, SHORT), strict=True))
    order = list(waiting)
    assert turns.select(waiting, 8) == [order[0], order[2], order[3]]
    assert turns.select(waiting, 2) == [order[0], order[2]]


def test_two_tenants_share_a_batch_in_turns() -> None:
    """A hundred windows of one tenant waited first, and the other's came after all of them."""
    turns = Turns()
    waiting = dict.fromkeys(slots(*["flood"] * 100, "calm", "calm"), SHORT)
    assert served(turns, waiting, 6) == ["flood", "calm", "flood", "calm", "flood", "flood"]


def test_shares_are_equal_while_both_wait() -> None:
    turns, count = Turns(), Counter[str]()
    waiting = dict.fromkeys(slots(*["flood"] * 100, *["calm"] * 10), SHORT)
    for _ in range(7):
        count.update(served(turns, waiting, 3))
    assert abs(count["flood"] - count["calm"]) <= 1


def test_long_windows_cost_more_turns() -> None:
    turns, count = Turns(), Counter[str]()
    waiting = {
        **dict.fromkeys(slots(*["long"] * 100), LONG),
        **dict.fromkeys(slots(*["short"] * 100), SHORT),
    }
    for _ in range(60):
        count.update(served(turns, waiting, 1))
    assert count["short"] == pytest.approx(2 * count["long"], abs=2)


def test_a_tenant_saves_nothing_up_while_it_is_silent() -> None:
    """After an hour of silence it would take all turns until it had caught up."""
    turns = Turns()
    waiting = dict.fromkeys(slots(*["busy"] * 100), SHORT)
    for _ in range(50):
        served(turns, waiting, 1)
    waiting.update(dict.fromkeys(slots(*["late"] * 50), SHORT))
    assert Counter(served(turns, waiting, 20)) == {"busy": 10, "late": 10}


def test_a_tenant_is_not_charged_for_what_it_used_alone() -> None:
    turns = Turns()
    waiting = dict.fromkeys(slots(*["busy"] * 50), SHORT)
    served(turns, waiting, 50)
    waiting = dict.fromkeys(slots("busy", "late", "busy"), SHORT)
    assert Counter(served(turns, waiting, 2)) == {"busy": 1, "late": 1}
    assert len(turns._ends) <= 2


def test_all_begin_anew_once_no_window_waits() -> None:
    """Work done for a tenant in a busy second is no debt in a later one."""
    turns = Turns()
    waiting = dict.fromkeys(slots(*"aaaa", "b"), LONG)
    assert Counter(served(turns, waiting, 4)) == {"a": 3, "b": 1}
    assert served(turns, waiting, 4) == ["a"]
    waiting = dict.fromkeys(slots("a", "b"), LONG)
    assert served(turns, waiting, 1) == ["a"], "it has waited longest"


def test_nothing_is_kept_of_tenants_that_are_gone() -> None:
    turns = Turns()
    for n in range(100):
        served(turns, dict.fromkeys(slots(f"tenant-{n}"), SHORT), 1)
        turns.offered(f"tenant-{n}", float(n))
    assert len(turns._ends) <= 1
    turns.shared(99.0)
    assert len(turns._seen) == RECENT_S


def test_an_engine_is_shared_while_two_tenants_use_it() -> None:
    turns = Turns()
    assert not turns.shared(0)
    turns.offered("a", 0)
    turns.offered("a", 1)
    assert not turns.shared(1)
    turns.offered("b", 2)
    assert turns.shared(2)
    assert turns.shared(1 + RECENT_S - 0.1)
    assert not turns.shared(1 + RECENT_S + 0.1)


# -- in the scheduler --------------------------------------------------------------------------


async def test_a_batch_takes_turns_between_tenants() -> None:
    async with running_harness() as harness:
        _, busy = await harness.hold()
        scheduler, listener = harness.scheduler, RecordingListener()
        flood = [scheduler.slot(listener, tenant="flood") for _ in range(20)]
        calm = [scheduler.slot(RecordingListener(), tenant="calm") for _ in range(2)]
        for slot in flood:
            slot.offer(window(0.1))
        for slot in calm:
            slot.offer(window(0.2))
        harness.backend.release()
        await asyncio.sleep(0)
        for slot in (busy, *calm, *flood):
            while slot.waiting or slot in scheduler._busy:  # noqa: ASYNC110  # slots have no event
                await asyncio.sleep(0.002)
        marks = [round(mark, 1) for batch in harness.backend.marks for mark in batch]
        assert marks[:4].count(0.2) == 2


class SlowBackend(ControlledBackend):
    """A model that takes a fixed time for each row."""

    ROW_S = 0.004

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        time.sleep(self.ROW_S * len(batch))
        return super().embed(batch)


class Channel(RecordingListener):
    """Offers a window every `period_s` seconds, whether the one before was scored or not."""

    def __init__(self, scheduler: Scheduler, tenant: str, period_s: float, start_s: float) -> None:
        super().__init__()
        self._slot = scheduler.slot(self, tenant=tenant)
        self._period_s = period_s
        self._start_s = start_s

    async def run(self) -> None:
        await asyncio.sleep(self._start_s)
        while True:
            self._slot.offer(window())
            await asyncio.sleep(self._period_s)


async def p95_of_calm(flood: int, tenant: str = "flood") -> float:
    """Return the p95 wait in seconds of a calm tenant beside `flood` channels of another one."""
    backend = SlowBackend(model(lengths=(SHORT, LONG), batch_sizes=(1, 2, 4, 8, 16, 32)))
    scheduler = Scheduler(ThreadEngine(lambda: backend, 32), 0.005, 10.0)
    await scheduler.start([SHORT, LONG])
    calm = [Channel(scheduler, "calm", 0.25, n * 0.05) for n in range(5)]
    others = [Channel(scheduler, tenant, 0.25, n * 0.002) for n in range(flood)]
    tasks = [asyncio.create_task(channel.run()) for channel in (*calm, *others)]
    await asyncio.sleep(0.9)
    for channel in calm:
        channel.waited.clear()
    for _ in range(2):
        await asyncio.sleep(0.75)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await scheduler.stop(5)
    waits: Sequence[float] = sorted(wait for channel in calm for wait in channel.waited)
    assert len(waits) > 4
    return waits[int(len(waits) * 0.95)]


async def test_a_tenant_at_ten_times_its_share_delays_another_by_two_short_batches() -> None:
    """The engine does 250 windows a second; the other tenant offers 800 of them.

    In the order of arrival the calm tenant's windows wait behind all of the other's.
    """
    alone = await p95_of_calm(0)
    beside = await p95_of_calm(200)
    in_order = await p95_of_calm(200, "calm")
    # On a loaded machine the wait alone varies by a tenth of a second.
    assert beside < alone + 2 * TURN_S + 0.3
    assert beside < in_order / 2
