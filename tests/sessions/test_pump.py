"""Pump of gathered audio: all inputs in time, in slices, in turns of tenants."""

from __future__ import annotations

import asyncio
import time

import pytest

from stream.sessions import pump as pump_module
from stream.sessions.pump import Pump
from tests.support.scheduling import until


class Recorded:
    """Input that records when it was processed."""

    def __init__(self, busy_s: float = 0.0, fails: bool = False) -> None:
        self.processed: list[float] = []
        self._busy_s = busy_s
        self._fails = fails

    def process(self) -> None:
        self.processed.append(time.monotonic())
        time.sleep(self._busy_s)
        if self._fails:
            raise RuntimeError("broken")


async def test_inputs_that_are_not_due_wait_for_more() -> None:
    pump, inputs = Pump(), [Recorded() for _ in range(50)]
    began = time.monotonic()
    for gathering in inputs:
        pump.add(gathering)
    await until(lambda: all(gathering.processed for gathering in inputs))
    waited = [gathering.processed[0] - began for gathering in inputs]
    assert min(waited) >= pump_module.LONGEST_S * 0.9
    assert all(len(gathering.processed) == 1 for gathering in inputs)


async def test_an_input_that_is_due_is_processed_at_once_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump_module, "LONGEST_S", 0.1)
    pump, due, waiting = Pump(), Recorded(), Recorded()
    pump.add(due)
    pump.add(waiting)
    pump.hasten(due)
    await until(lambda: bool(due.processed))
    assert not waiting.processed
    await until(lambda: bool(waiting.processed))
    assert len(due.processed) == 1


async def test_the_pump_lets_other_work_in_between() -> None:
    """With two hundred streams in one go, pongs and other streams' messages would wait for it."""
    pump, inputs = Pump(), [Recorded(busy_s=0.003) for _ in range(60)]
    for gathering in inputs:
        pump.hasten(gathering)
    longest, last = 0.0, time.monotonic()
    while not all(gathering.processed for gathering in inputs):
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert longest < 0.09, "half of the work"


async def test_an_input_that_fails_does_not_stop_the_pump(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pump, broken, good = Pump(), Recorded(fails=True), Recorded()
    pump.hasten(broken)
    pump.hasten(good)
    await until(lambda: bool(good.processed))
    assert [record.getMessage() for record in caplog.records] == ["audio not processed"]


async def test_the_pump_takes_turns_between_tenants() -> None:
    """Hundreds of streams of one tenant gathered first, and another's stream waited for all."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def process(self) -> None:
            order.append(self.name)

    pump = Pump()
    for n in range(5):
        pump.lane("flood").hasten(Named(f"flood-{n}"))
    for n in range(2):
        pump.lane("calm").hasten(Named(f"calm-{n}"))
    await until(lambda: len(order) == 7)
    assert order == ["flood-0", "calm-0", "flood-1", "calm-1", "flood-2", "flood-3", "flood-4"]
    assert pump._lanes == {}


async def test_an_input_waits_for_others_only_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump_module, "MEASURE_S", 0.0)
    monkeypatch.setattr(pump_module, "BATCH_S", 0.3)
    pump, first = Pump(), [Recorded() for _ in range(5)]
    for gathering in first:
        pump.hasten(gathering)
    # Far sooner than BATCH_S: nothing has been counted yet.
    await until(lambda: all(gathering.processed for gathering in first))
    monkeypatch.setattr(pump_module, "BATCH_PER_INPUT_S", 1e9)
    for gathering in first:
        pump.hasten(gathering)
    await until(lambda: all(len(gathering.processed) == 2 for gathering in first))
    began, late, later = time.monotonic(), Recorded(), Recorded()
    pump.hasten(late)
    await asyncio.sleep(0.05)
    pump.hasten(later)
    await until(lambda: bool(late.processed and later.processed))
    assert late.processed[0] - began > 0.25
    assert later.processed[0] - late.processed[0] < 0.05, "in the same batch"
