from __future__ import annotations

import asyncio

from client.audio.playback import PlaybackClock


class Clock:
    """Time that only passes while somebody sleeps or works."""

    def __init__(self, oversleep_s: float = 0.0) -> None:
        self.now = 100.0
        self.sleeps = 0
        self._oversleep = oversleep_s

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps += 1
        self.now += seconds + self._oversleep


def played(clock: Clock, speed: float, chunks: int, work_s: float = 0.0) -> float:
    async def play() -> float:
        pacing = PlaybackClock(speed, clock, clock.sleep)
        await pacing.until(0.0)
        begun = clock.now
        for number in range(1, chunks + 1):
            await pacing.until(number * 0.02)
            clock.now += work_s
        return clock.now - begun

    return asyncio.run(play())


def test_late_sleeps_and_slow_work_do_not_add_up() -> None:
    assert abs(played(Clock(oversleep_s=0.003), 1.0, 30_000, work_s=0.005) - 600.0) < 0.02


def test_speed_scales_the_schedule() -> None:
    assert abs(played(Clock(), 4.0, 1000) - 5.0) < 1e-6


def test_as_fast_as_it_goes_never_waits() -> None:
    clock = Clock()
    assert played(clock, 0.0, 1000) == 0.0
    assert clock.sleeps == 0


def test_a_pause_is_made_up_for() -> None:
    clock = Clock()

    async def play() -> None:
        pacing = PlaybackClock(1.0, clock, clock.sleep)
        await pacing.until(0.0)
        clock.now += 5.0
        await pacing.until(4.0)
        assert clock.sleeps == 0
        await pacing.until(6.0)
        assert clock.now == 106.0

    asyncio.run(play())
