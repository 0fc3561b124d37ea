"""Meter of the lead over real time, and its check of the declared sample rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sessions.realtime import ArrivalMeter, RealtimeMeter

CHUNK = 0.02


def steady(
    meter: RealtimeMeter, seconds: float, speed: float = 1.0, start: float = 1000.0
) -> list[float]:
    """Add 20 ms chunks at `speed` times real time; return the seconds ahead after each."""
    count = round(seconds / CHUNK * speed)
    return [meter.add(CHUNK, start + n * CHUNK / speed) for n in range(count)]


def test_a_producer_in_real_time_is_never_ahead_by_more_than_a_chunk() -> None:
    assert max(steady(RealtimeMeter(), 600)) <= CHUNK + 1e-9


@pytest.mark.parametrize("chunk", [0.02, 0.1, 1.0, 5.0])
def test_large_chunks_are_ahead_by_their_length(chunk: float) -> None:
    meter = RealtimeMeter()
    ahead = [meter.add(chunk, n * chunk) for n in range(100)]
    assert max(ahead) == pytest.approx(chunk)


def test_jitter_does_not_accumulate() -> None:
    meter, rng = RealtimeMeter(), np.random.default_rng(1)
    ahead = [meter.add(CHUNK, n * CHUNK + rng.uniform(0, 0.3)) for n in np.arange(20_000)]
    assert max(ahead) < 0.5


def test_a_file_sent_at_once_is_ahead_by_its_length() -> None:
    meter = RealtimeMeter()
    ahead = [meter.add(CHUNK, 5.0) for _ in range(500)]
    assert ahead[-1] == pytest.approx(10.0)


def test_a_burst_after_a_stall_counts_as_ahead() -> None:
    """A network that stalled for 4 s delivers 4 s of audio at once. Counted as overdue, that audio
    would be dropped; counted as ahead, it is scored as fast as the backend can."""
    meter = RealtimeMeter()
    steady(meter, 10)
    burst = [meter.add(CHUNK, 1014.0) for _ in range(200)]
    assert burst[-1] == pytest.approx(4.0)


def test_a_lead_drains_in_real_time() -> None:
    meter = RealtimeMeter()
    for _ in range(250):
        meter.add(CHUNK, 0.0)
    ahead = [meter.add(CHUNK, n * CHUNK) for n in range(1, 6000)]
    assert ahead[0] > 4.9
    assert ahead[-1] <= CHUNK + 1e-9


@pytest.mark.parametrize("speed", [0.97, 1.0, 1.03])
def test_a_clock_three_percent_off_never_accumulates(speed: float) -> None:
    assert max(steady(RealtimeMeter(), 4 * 3600 if speed > 1 else 600, speed)) < 2 * CHUNK


def test_the_lead_of_a_producer_at_twice_real_time_grows() -> None:
    ahead = steady(RealtimeMeter(), 60, speed=2.0)
    assert ahead[-1] == pytest.approx(60 * (2 - 1.05), rel=0.02)


@given(st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 3)), min_size=1, max_size=50))
@settings(deadline=None, max_examples=80)
def test_the_lead_is_between_the_last_chunk_and_all_audio_sent(
    chunks: list[tuple[float, float]],
) -> None:
    meter, now, sent = RealtimeMeter(), 50.0, 0.0
    for duration, passed in chunks:
        now += passed
        sent += duration
        assert duration - 1e-9 <= meter.add(duration, now) <= sent + 1e-9


def test_what_was_processed_early_is_no_longer_ahead() -> None:
    meter = RealtimeMeter()
    assert meter.add(60.0, 0.0) == 60.0
    meter.advance(50.0)
    assert meter.add(1.0, 0.0) == pytest.approx(11.0)
    meter.advance(50.0)
    assert meter.add(1.0, 0.0) == pytest.approx(1.0), "a lead is never negative"


# -- speed of arrival --------------------------------------------------------------------------


def speeds(arrivals: list[tuple[float, float]]) -> list[float]:
    """Return what the meter reports about chunks that arrived at a time, with a duration."""
    meter = ArrivalMeter()
    found = (meter.add(duration, now) for now, duration in arrivals)
    return [speed for speed in found if speed is not None]


def at_speed(speed: float, seconds: float, chunk: float = CHUNK) -> list[tuple[float, float]]:
    return [(n * chunk / speed, chunk) for n in range(round(seconds * speed / chunk))]


def test_half_the_expected_audio_is_reported_every_ten_seconds() -> None:
    assert speeds(at_speed(0.5, 44)) == pytest.approx([0.5] * 4, abs=0.01)


@pytest.mark.parametrize("speed", [1.5, 2.0, 44.1 / 16, 3.0, 6.0, 12.0])
@pytest.mark.parametrize("chunk", [0.02, 0.1, 0.25])
def test_audio_of_a_higher_rate_is_reported(speed: float, chunk: float) -> None:
    """48 kHz said to be 16 kHz arrived three times too fast, and only the throttle noticed.

    The scores came 24 s late, and then the call was cut off, without a word of the reason.
    """
    assert speeds(at_speed(speed, 22, chunk * speed)) == pytest.approx([speed] * 2, rel=0.05)


@pytest.mark.parametrize("speed", [44.1 / 48, 48 / 44.1])
def test_a_small_deviation_is_reported_after_a_minute(speed: float) -> None:
    assert speeds(at_speed(speed, 50)) == []
    assert speeds(at_speed(speed, 65)) == pytest.approx([speed], abs=0.005)


def test_nothing_is_reported_before_ten_seconds() -> None:
    assert speeds(at_speed(0.5, 9.9)) == []
    assert speeds(at_speed(3, 9.9)) == []


@pytest.mark.parametrize("seed", range(5))
def test_jittery_real_time_is_not_reported(seed: int) -> None:
    jitter = np.random.default_rng(seed).uniform(0, 0.5, 10_000)
    arrivals = np.maximum.accumulate(np.arange(10_000) * CHUNK + jitter)
    assert speeds([(now, CHUNK) for now in arrivals]) == []


def test_pauses_are_not_reported() -> None:
    """A browser may send no audio during silence, here for 3 s in every 5."""
    assert speeds([(5 * k + n * CHUNK, CHUNK) for k in range(40) for n in range(100)]) == []


def test_a_burst_after_a_stall_is_not_reported() -> None:
    """A network that stalls for 5 s and then delivers everything is no wrong rate."""
    arrivals = [(max(n * CHUNK, 25.0) if 20 <= n * CHUNK < 25 else n * CHUNK) for n in range(6000)]
    assert speeds([(now, CHUNK) for now in arrivals]) == []


def test_a_file_as_fast_as_the_network_takes_it_is_not_reported() -> None:
    """A file comes far faster than any rate, or unevenly, as the throttle lets it."""
    assert speeds(at_speed(20, 30)) == []
    rng = np.random.default_rng(2)
    times = np.cumsum(np.repeat(rng.exponential(0.4, 400), 50)) / 50
    assert speeds([(now, CHUNK) for now in times]) == []


def test_audio_before_a_pause_does_not_count_after_it() -> None:
    before = at_speed(1, 9)
    after = [(now + 14, chunk) for now, chunk in at_speed(1, 10.5)]
    assert speeds(before + after) == []
