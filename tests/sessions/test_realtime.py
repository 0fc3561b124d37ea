"""Who is ahead of real time, and whose sample rate cannot be true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sessions.realtime import RealtimeMeter

CHUNK = 0.02


def steady(
    pace: RealtimeMeter, seconds: float, speed: float = 1.0, start: float = 1000.0
) -> list[float]:
    """20 ms chunks that arrive `speed` times as fast as they last; seconds ahead after each."""
    count = round(seconds / CHUNK * speed)
    return [pace.take(CHUNK, start + n * CHUNK / speed) for n in range(count)]


def test_a_producer_in_real_time_is_never_ahead_of_its_own_chunk() -> None:
    assert max(steady(RealtimeMeter(), 600)) <= CHUNK + 1e-9


@pytest.mark.parametrize("chunk", [0.02, 0.1, 1.0, 5.0])
def test_large_chunks_count_as_their_own_length(chunk: float) -> None:
    pace = RealtimeMeter()
    ahead = [pace.take(chunk, n * chunk) for n in range(100)]
    assert max(ahead) == pytest.approx(chunk)


def test_jitter_does_not_add_up() -> None:
    pace, rng = RealtimeMeter(), np.random.default_rng(1)
    ahead = [pace.take(CHUNK, n * CHUNK + rng.uniform(0, 0.3)) for n in np.arange(20_000)]
    assert max(ahead) < 0.5


def test_a_file_sent_at_once_is_ahead_by_its_length() -> None:
    pace = RealtimeMeter()
    ahead = [pace.take(CHUNK, 5.0) for _ in range(500)]
    assert ahead[-1] == pytest.approx(10.0)


def test_a_burst_after_a_stall_counts_as_ahead() -> None:
    """A network that stalled for 4 s delivers 4 s at once. As overdue it would be thrown away; as
    ahead it is scored as fast as the backend can."""
    pace = RealtimeMeter()
    steady(pace, 10)
    burst = [pace.take(CHUNK, 1014.0) for _ in range(200)]
    assert burst[-1] == pytest.approx(4.0)


def test_being_ahead_wears_off_in_real_time() -> None:
    pace = RealtimeMeter()
    for _ in range(250):
        pace.take(CHUNK, 0.0)
    ahead = [pace.take(CHUNK, n * CHUNK) for n in range(1, 6000)]
    assert ahead[0] > 4.9
    assert ahead[-1] <= CHUNK + 1e-9


@pytest.mark.parametrize("speed", [0.97, 1.0, 1.03])
def test_a_clock_three_percent_off_never_accumulates(speed: float) -> None:
    assert max(steady(RealtimeMeter(), 4 * 3600 if speed > 1 else 600, speed)) < 2 * CHUNK


def test_a_producer_at_twice_real_time_is_found_out() -> None:
    ahead = steady(RealtimeMeter(), 60, speed=2.0)
    assert ahead[-1] == pytest.approx(60 * (2 - 1.05), rel=0.02)


@given(st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 3)), min_size=1, max_size=50))
@settings(deadline=None, max_examples=80)
def test_nobody_is_ahead_by_more_than_was_sent_nor_by_less_than_the_last_chunk(chunks) -> None:
    pace, now, sent = RealtimeMeter(), 50.0, 0.0
    for duration, passed in chunks:
        now += passed
        sent += duration
        assert duration - 1e-9 <= pace.take(duration, now) <= sent + 1e-9


def rates(pace: RealtimeMeter, arrivals: list[tuple[float, float]]) -> list[float]:
    found = []
    for now, duration in arrivals:
        pace.take(duration, now)
        ratio = pace.suspicious_rate()
        if ratio is not None:
            found.append(ratio)
    return found


def test_half_the_audio_that_time_demands_is_suspicious_every_ten_seconds() -> None:
    found = rates(RealtimeMeter(), [(n * 2 * CHUNK, CHUNK) for n in range(1100)])
    assert len(found) == 4
    assert found == pytest.approx([0.5] * 4, abs=0.01)


def test_nothing_is_suspected_before_ten_seconds() -> None:
    assert rates(RealtimeMeter(), [(n * 2 * CHUNK, CHUNK) for n in range(249)]) == []
    assert RealtimeMeter().suspicious_rate() is None


@pytest.mark.parametrize("seed", range(5))
def test_jittery_real_time_is_not_suspicious(seed: int) -> None:
    jitter = np.random.default_rng(seed).uniform(0, 0.5, 5000)
    arrivals = np.maximum.accumulate(np.arange(5000) * CHUNK + jitter)
    assert rates(RealtimeMeter(), [(now, CHUNK) for now in arrivals]) == []


def test_pauses_are_not_suspicious() -> None:
    """A browser that stops sending while nobody speaks, for 3 s in every 5."""
    arrivals = [(5 * k + n * CHUNK, CHUNK) for k in range(40) for n in range(100)]
    assert rates(RealtimeMeter(), arrivals) == []


def test_a_file_faster_than_real_time_is_not_suspicious() -> None:
    assert rates(RealtimeMeter(), [(n * CHUNK / 10, CHUNK) for n in range(20_000)]) == []
