from __future__ import annotations

from client.audio.playback import PlaybackClock


class Clock:
    """Clock that advances only during sleep and work."""

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


async def played(clock: Clock, speed: float, chunks: int, work_s: float = 0.0) -> float:
    """Return the seconds that the playback of 20 ms chunks takes."""
    playback = PlaybackClock(speed, clock, clock.sleep)
    await playback.until(0.0)
    begun = clock.now
    for number in range(1, chunks + 1):
        await playback.until(number * 0.02)
        clock.now += work_s
    return clock.now - begun


async def test_late_sleeps_and_slow_work_do_not_accumulate() -> None:
    assert abs(await played(Clock(oversleep_s=0.003), 1.0, 30_000, work_s=0.005) - 600.0) < 0.02


async def test_speed_scales_the_schedule() -> None:
    assert abs(await played(Clock(), 4.0, 1000) - 5.0) < 1e-6


async def test_speed_0_never_waits() -> None:
    clock = Clock()
    assert await played(clock, 0.0, 1000) == 0.0
    assert clock.sleeps == 0


async def test_a_delay_is_caught_up() -> None:
    clock = Clock()

    playback = PlaybackClock(1.0, clock, clock.sleep)
    await playback.until(0.0)
    clock.now += 5.0
    await playback.until(4.0)
    assert clock.sleeps == 0
    await playback.until(6.0)
    assert clock.now == 106.0
