"""Meter of the lead over real time, and its check of the declared sample rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sessions.realtime import RealtimeMeter

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


def rates(meter: RealtimeMeter, arrivals: list[tuple[float, float]]) -> list[float]:
    ratios = []
    for now, duration in arrivals:
        meter.add(duration, now)
        ratio = meter.suspicious_rate()
        if ratio is not None:
            ratios.append(ratio)
    return ratios


def test_half_the_expected_audio_is_suspicious_every_ten_seconds() -> None:
    ratios = rates(RealtimeMeter(), [(n * 2 * CHUNK, CHUNK) for n in range(1100)])
    assert len(ratios) == 4
    assert ratios == pytest.approx([0.5] * 4, abs=0.01)


def test_no_rate_is_suspicious_before_ten_seconds() -> None:
    assert rates(RealtimeMeter(), [(n * 2 * CHUNK, CHUNK) for n in range(249)]) == []
    assert RealtimeMeter().suspicious_rate() is None


@pytest.mark.parametrize("seed", range(5))
def test_jittery_real_time_is_not_suspicious(seed: int) -> None:
    jitter = np.random.default_rng(seed).uniform(0, 0.5, 5000)
    arrivals = np.maximum.accumulate(np.arange(5000) * CHUNK + jitter)
    assert rates(RealtimeMeter(), [(now, CHUNK) for now in arrivals]) == []


def test_pauses_are_not_suspicious() -> None:
    """A browser may send no audio during silence, here for 3 s in every 5."""
    arrivals = [(5 * k + n * CHUNK, CHUNK) for k in range(40) for n in range(100)]
    assert rates(RealtimeMeter(), arrivals) == []


def test_a_file_faster_than_real_time_is_not_suspicious() -> None:
    assert rates(RealtimeMeter(), [(n * CHUNK / 10, CHUNK) for n in range(20_000)]) == []
