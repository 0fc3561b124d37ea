"""The clock of calls without frames in silence, by itself."""

from __future__ import annotations

from collections.abc import Iterable

from stream.ingest.arrival import ArrivalClock
from stream.ingest.dialect import Audio, Command, Silence
from stream.types import AudioFormat
from tests.support.captured import Clock

FRAME = b"\x01" * 160


def length(commands: Iterable[Command]) -> int:
    """Return the length of commands in samples of mu-law."""
    return sum(
        len(c.data) if isinstance(c, Audio) else c.samples if isinstance(c, Silence) else 0
        for c in commands
    )


def test_a_call_is_as_long_as_it_lasted_and_loses_no_audio() -> None:
    """Speech of a second and silence of 0.3 to 40 s in turns, with ticks ten times a second."""
    clock = Clock()
    arrival, found, frames = ArrivalClock(AudioFormat("mulaw", 8_000), clock), list[Command](), 0
    begin = clock.now
    for silence_s in (0.3, 5.0, 0.1, 40.0, 1.2):
        for _ in range(50):
            clock.now += 0.02
            found += arrival.audio(FRAME)
            frames += 1
            if frames % 5 == 0:
                found += arrival.tick()
        for _ in range(round(silence_s * 10)):
            clock.now += 0.1
            found += arrival.tick()
    lasted = (clock.now - begin) * 8_000
    assert sum(len(c.data) for c in found if isinstance(c, Audio)) == frames * len(FRAME)
    assert lasted - 1.1 * 8_000 <= length(found) <= lasted
    assert max(c.samples for c in found if isinstance(c, Silence)) < 1.2 * 8_000


def test_a_frame_after_silence_waits_for_the_next_one_or_a_tick_only() -> None:
    clock = Clock()
    arrival = ArrivalClock(AudioFormat("mulaw", 8_000), clock)
    assert length(arrival.audio(FRAME)) == 160
    assert not list(arrival.tick())
    clock.now += 0.25
    assert not list(arrival.tick())
    assert not list(arrival.audio(FRAME))
    clock.now += 0.06
    assert length(arrival.tick()) == 160 + round(0.23 * 8_000)
    clock.now += 0.25
    assert not list(arrival.audio(FRAME))
    assert length(arrival.settle()) > 160, "at the end of a call nothing is held"
    assert not list(arrival.settle())


def test_nothing_is_due_before_the_call() -> None:
    arrival = ArrivalClock(AudioFormat("mulaw", 8_000), Clock())
    assert not list(arrival.tick())
    assert not list(arrival.tick())
    assert not list(arrival.settle())
