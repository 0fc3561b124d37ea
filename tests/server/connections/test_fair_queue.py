"""The event loop's time: who is served at once, who waits, and for how long."""

from __future__ import annotations

import asyncio
import time

import pytest

from stream.server.connections.fair_queue import BURST_S, DEBT_S, LIGHT_S, SLICE_S, FairQueue, Usage


class Clock:
    """A clock that only the steps advance."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Steps of one connection that take `step_s` seconds each."""

    def __init__(self, clock: Clock, step_s: float, steps: int, log: list[str], name: str) -> None:
        self._clock = clock
        self._step_s = step_s
        self._left = steps
        self._log = log
        self._name = name

    def __call__(self) -> bool:
        self._clock.now += self._step_s
        self._log.append(self._name)
        self._left -= 1
        return self._left > 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queue(clock: Clock) -> FairQueue:
    return FairQueue(asyncio.get_running_loop(), clock)


def saved(queue: FairQueue, clock: Clock) -> Usage:
    """Return the usage of a connection that has been quiet for a long time."""
    usage = queue.usage()
    clock.now += 100
    return usage


async def iterations(clock: Clock, count: int, seconds: float = 0.0) -> None:
    """Let the event loop run; the clock advances by `seconds` each time."""
    for _ in range(count):
        await asyncio.sleep(0.003 if seconds else 0)
        clock.now += seconds


async def test_the_first_step_is_done_at_once(queue: FairQueue, clock: Clock) -> None:
    log: list[str] = []
    queue.run(queue.usage(), Work(clock, 0.001, 1, log, "new"))
    queue.run(saved(queue, clock), Work(clock, 0.001, 1, log, "quiet"))
    assert log == ["new", "quiet"]


async def test_a_quiet_connection_does_not_wait_for_a_busy_one(
    queue: FairQueue, clock: Clock
) -> None:
    """A flood of subscribes beside 100 streams stopped /healthz for 22 s and a call for 31 s."""
    log: list[str] = []
    quiet, busy = saved(queue, clock), queue.usage()
    queue.run(busy, Work(clock, 0.001, 1_000, log, "busy"))
    await iterations(clock, 5)
    queue.run(quiet, Work(clock, 0.001, 1, log, "quiet"))
    assert log[-1] == "quiet"
    assert log.count("busy") <= 4


async def test_busy_connections_get_half_of_the_time_in_short_slices(
    queue: FairQueue, clock: Clock
) -> None:
    log: list[str] = []
    for number in range(50):
        queue.run(queue.usage(), Work(clock, 0.0005, 1_000, log, str(number)))
    began, before = clock.now, len(log)
    for _ in range(40):
        await iterations(clock, 1, 0.002)
    used = (len(log) - before) * 0.0005
    assert used == pytest.approx((clock.now - began) / 2, rel=0.25)


async def test_one_slice_is_short_however_many_connections_wait(
    queue: FairQueue, clock: Clock
) -> None:
    log: list[str] = []
    for number in range(500):
        queue.run(saved(queue, clock), Work(clock, 0.0005, 1_000, log, f"light {number}"))
        queue.run(queue.usage(), Work(clock, 0.0005, 1_000, log, f"busy {number}"))
    clock.now += 1
    before = clock.now
    queue._run()
    assert 0 < clock.now - before <= LIGHT_S + SLICE_S + 2 * 0.0005


async def test_busy_connections_are_served_in_turn(queue: FairQueue, clock: Clock) -> None:
    log: list[str] = []
    for name in ("a", "b", "c"):
        queue.run(queue.usage(), Work(clock, 0.001, 5, log, name))
    await iterations(clock, 40, 0.003)
    assert sorted(log) == ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    assert sorted(log[:4]) == ["a", "a", "b", "c"]
    assert sorted(log[4:7]) == ["a", "b", "c"]


async def test_a_new_connection_has_no_allowance(queue: FairQueue, clock: Clock) -> None:
    """A client could otherwise open a connection for each message."""
    log: list[str] = []
    queue.run(queue.usage(), Work(clock, 0.010, 1, log, "first"))
    queue.run(queue.usage(), Work(clock, 0.001, 1, log, "second"))
    assert log == ["first"]
    await iterations(clock, 5, 0.01)
    assert log == ["first", "second"]


async def test_work_in_tasks_is_charged(queue: FairQueue, clock: Clock) -> None:
    """HTTP requests are answered in tasks; their time counts like that of a step."""
    log: list[str] = []
    usage = queue.usage()
    queue.charge(usage, 0.010)
    queue.run(usage, Work(clock, 0.001, 1, log, "request"))
    assert log == []
    await iterations(clock, 10, 0.02)
    assert log == ["request"]


def test_savings_and_debts_are_limited() -> None:
    usage = Usage(0.0)
    assert not usage.is_light(0.0)
    assert usage.is_light(1e6)
    usage.spend(BURST_S * 1.01)
    assert not usage.is_light(1e6)
    usage.spend(1_000.0)
    assert not usage.is_light(1e6 + 10)
    assert usage.is_light(1e6 + 200 * DEBT_S)


async def test_a_step_that_raises_ends_nothing_else(
    queue: FairQueue, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> bool:
        raise ValueError("broken")

    log: list[str] = []
    queue.run(queue.usage(), fails)
    queue.run(queue.usage(), Work(clock, 0.001, 3, log, "other"))
    await iterations(clock, 10, 0.01)
    assert log == ["other"] * 3
    assert "broken" in caplog.text


async def test_the_real_clock_leaves_time_to_others() -> None:
    queue = FairQueue()
    end = time.perf_counter() + 0.3

    def spin() -> bool:
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        return time.perf_counter() < end

    for _ in range(20):
        queue.run(queue.usage(), spin)
    ticks = 0
    while time.perf_counter() < end:
        await asyncio.sleep(0)
        ticks += 1
    assert ticks > 100
