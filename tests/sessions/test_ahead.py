"""Audio ahead of real time: shared memory and shared catching up, without sessions."""

from __future__ import annotations

import asyncio
import time

import pytest

from stream.sessions import ahead as ahead_module
from stream.sessions.ahead import Ahead
from tests.support.scheduling import until


class Backlog:
    """Input that holds some seconds of audio."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def advance(self, seconds: float) -> bool:
        self.seconds -= seconds
        return self.seconds > 0


@pytest.fixture(autouse=True)
def short_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "PERIOD_S", 0.01)
    monkeypatch.setattr(ahead_module, "LATE_S", 5.0)


async def test_all_streams_share_the_speed() -> None:
    """A hundred files at once would otherwise take the machine from the live calls beside them."""
    alone = Ahead(0, speed=100.0)
    one = Backlog(10.0)
    alone.add(one)
    await until(lambda: one.seconds <= 0)
    shared = Ahead(0, speed=100.0)
    several = [Backlog(1000.0) for _ in range(10)]
    for backlog in several:
        shared.add(backlog)
    began = time.monotonic()
    await asyncio.sleep(0.2)
    advanced = sum(1000.0 - backlog.seconds for backlog in several)
    assert 0 < advanced <= 100.0 * (time.monotonic() - began + 0.05)
    assert len({round(backlog.seconds, 6) for backlog in several}) == 1


async def test_nothing_catches_up_while_the_event_loop_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead_module, "LATE_S", 0.02)
    shared, backlog = Ahead(0, speed=100.0), Backlog(1e9)
    shared.add(backlog)
    for _ in range(5):
        time.sleep(0.05)
        await asyncio.sleep(0)
    assert backlog.seconds == 1e9
    await until(lambda: backlog.seconds < 1e9)
    shared.remove(backlog)


async def test_without_a_speed_nothing_catches_up() -> None:
    shared, backlog = Ahead(0, speed=0.0), Backlog(1.0)
    shared.add(backlog)
    await asyncio.sleep(0.05)
    assert backlog.seconds == 1.0


def test_one_stream_takes_at_most_half_of_the_memory() -> None:
    shared = Ahead(1000, speed=0.0)
    shared.bytes = 499
    assert shared.has_room(499)
    assert not shared.has_room(500)
    assert not shared.has_room(400, share=0.75)
    shared.bytes = 1000
    assert not shared.has_room(0), "others hold it all"
