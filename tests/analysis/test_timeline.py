"""Timeline, compared with a reference that keeps all logits; softmax and activation."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.timeline import Timeline, softmax, speech_mask
from stream.labels import activation
from stream.types import FRAME, SAMPLE_RATE, Quality, Span, Window
from tests.support.signals import frame_count

QUALITY = Quality(-20.0, 0.0, None, None, 1.0)


def window(start: int, length: int, speech: tuple[Span, ...] | None = None) -> Window:
    """Return a window; start and length are in frames of 20 ms. By default all of it is speech."""
    spans = ((start * FRAME, (start + length) * FRAME),) if speech is None else speech
    audio = np.zeros(length * FRAME, np.float32)
    return Window(
        0, start * FRAME, audio, max(0, start * FRAME), spans, start * FRAME, 0, "interval", QUALITY
    )


class Reference:
    """All logits ever added to each cell, in lists."""

    def __init__(self) -> None:
        self.cells: dict[int, list[np.ndarray]] = defaultdict(list)

    def add(self, first: int, logits: np.ndarray, mask: np.ndarray) -> None:
        for n in np.flatnonzero(mask):
            if first + n >= 0:
                self.cells[first + int(n)].append(logits[n].astype(np.float64))

    def mean(self, first: int, last: int) -> tuple[np.ndarray | None, int]:
        means = [np.mean(g, axis=0) for cell, g in self.cells.items() if first <= cell < last]
        return (np.mean(means, axis=0) if means else None), len(means)


steps = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([20, 50, 100]), st.floats(0, 1)),
    min_size=1,
    max_size=25,
)


@given(steps=steps, seed=st.integers(0, 2**31), capacity=st.integers(130, 220))
@settings(deadline=None, max_examples=60)
def test_means_equal_those_of_a_reference_that_keeps_all_logits(
    steps: list[tuple[int, int, float]], seed: int, capacity: int
) -> None:
    """Windows overlap, skip and wrap the ring many times; the first begin before the stream."""
    rng = np.random.default_rng(seed)
    timeline, reference = Timeline(4, FRAME, capacity * FRAME / SAMPLE_RATE), Reference()
    end = 5
    for advance, length, density in steps:
        end += advance
        scored = window(end - length, length)
        count = frame_count(scored.length)
        logits = rng.normal(0, 5, (count, 4)).astype(np.float32)
        mask = rng.random(count) < density
        timeline.add(scored, logits, mask)
        reference.add(end - length, logits, mask)

        head = end - length + count
        for horizon in (1, 30, 100, capacity):
            first = max(end - horizon, head - capacity)
            mean, n = timeline.mean((end - horizon) * FRAME, end * FRAME)
            expected, m = reference.mean(first, end)
            assert n == m
            if expected is not None:
                assert mean == pytest.approx(expected, abs=1e-4)
        mean, n = timeline.overall()
        expected, m = reference.mean(0, 10**9)
        assert n == m
        if expected is not None:
            assert mean == pytest.approx(expected, abs=1e-4)


def test_a_cell_that_many_windows_scored_has_the_weight_of_one() -> None:
    timeline = Timeline(1, FRAME, 10)
    for value in (0.0, 2.0, 4.0):
        timeline.add(window(0, 50), np.full((49, 1), value, np.float32), np.ones(49, bool))
    timeline.add(window(50, 50), np.full((49, 1), 10, np.float32), np.ones(49, bool))
    mean, count = timeline.mean(0, 100 * FRAME)
    assert count == 98
    assert mean[0] == pytest.approx((2.0 + 10.0) / 2)


def test_without_scored_cells_there_is_no_mean() -> None:
    timeline = Timeline(3, FRAME, 10)
    assert timeline.mean(0, 10**6)[1] == timeline.overall()[1] == 0
    timeline.add(window(0, 50), np.ones((49, 3), np.float32), np.zeros(49, bool))
    assert timeline.mean(0, 10**6)[1] == timeline.overall()[1] == 0


def test_memory_is_constant_and_the_mean_exact_over_an_hour_of_speech() -> None:
    timeline = Timeline(2, FRAME, 36)
    size = sum(v.nbytes for v in vars(timeline).values() if isinstance(v, np.ndarray))
    total = np.zeros(2)
    for n in range(1, 3600):
        value = np.array([n % 7, -n % 11], np.float32)
        total += value
        timeline.add(window(50 * n, 51), np.tile(value, (50, 1)), np.ones(50, bool))
    mean, count = timeline.overall()
    assert count == 3599 * 50
    assert mean == pytest.approx(total / 3599, rel=1e-5)
    after = sum(v.nbytes for v in vars(timeline).values() if isinstance(v, np.ndarray))
    assert after == size


@given(
    st.lists(st.tuples(st.integers(0, 160), st.integers(1, 60)), max_size=4),
    st.integers(-90, 60),
)
@settings(deadline=None, max_examples=100)
def test_a_frame_counts_if_its_middle_is_speech(pairs: list[tuple[int, int]], start: int) -> None:
    spans = tuple((a * FRAME, (a + n) * FRAME) for a, n in pairs)
    mask = speech_mask(window(start, 100, spans), 99, FRAME)
    for n, counted in enumerate(mask):
        middle = (start + n) * FRAME + FRAME // 2
        inside = any(a <= middle < b for a, b in spans)
        only = n == 98 and not mask[:98].any()
        assert counted == inside or (only and counted)
    assert mask.any()


@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=9), st.floats(0.25, 4))
@settings(deadline=None, max_examples=80)
def test_softmax_adds_up_to_one_and_divides_by_the_temperature(
    logits: list[float], temperature: float
) -> None:
    values = np.array(logits, np.float32)
    shares = softmax(values, temperature)
    assert shares.dtype == np.float32
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    exact = np.exp((values.astype(np.float64) - values.max()) / temperature)
    assert shares == pytest.approx(exact / exact.sum(), abs=1e-5)


def test_a_higher_temperature_gives_flatter_posteriors() -> None:
    logits = np.array([2.0, 0.0, -1.0], np.float32)
    tops = [softmax(logits, t)[0] for t in (0.5, 1.0, 2.0, 8.0)]
    assert tops == sorted(tops, reverse=True)
    assert softmax(np.array([1000.0, -1000.0], np.float32)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"angry": 0.2, "fearful": 0.1, "happy": 0.1, "neutral": 0.3, "sad": 0.1}, 0.5),
        ({"happy": 0.3, "neutral": 0.1, "surprised": 0.6}, 0.75),
        ({"angry": 0.0, "neutral": 1.0}, 0.0),
        ({"other": 0.4, "unknown": 0.6}, None),
        ({}, None),
    ],
)
def test_activation_is_the_share_of_excited_in_excited_and_calm(
    scores: dict[str, float], expected: float | None
) -> None:
    assert activation(scores) == expected


def test_the_cells_of_a_range_are_its_scored_frames() -> None:
    """The detail view of a stream draws them: all that the ring still holds, no unscored frame."""
    timeline = Timeline(1, FRAME, 2)
    mask = np.ones(49, bool)
    mask[10:20] = False
    timeline.add(window(0, 50), np.arange(49, dtype=np.float32)[:, None], mask)
    timeline.add(window(0, 50), np.zeros((49, 1), np.float32), np.arange(49) == 5)
    starts, logits = timeline.cells(4 * FRAME, 22 * FRAME)
    assert starts.tolist() == [n * FRAME for n in (*range(4, 10), 20, 21)]
    assert logits[:, 0].tolist() == [4, 2.5, 6, 7, 8, 9, 20, 21]
    timeline.add(window(100, 50), np.ones((49, 1), np.float32), np.ones(49, bool))
    starts, _ = timeline.cells(0, 10**6)
    assert starts[0] == 100 * FRAME, "cells that left the ring must not be returned"
    assert len(timeline.cells(10**6, 10**7)[0]) == 0


def test_speech_ends_before_its_end() -> None:
    """Ranges are half-open: a frame whose middle is the end of speech does not count."""
    middle = FRAME // 2
    spans = ((0, middle), (FRAME + middle, 2 * FRAME))
    assert speech_mask(window(0, 3, spans), 3, FRAME).tolist() == [False, True, False]
