"""The judgement of a soak: a leak is noticed, noise and warm-up are not."""

from __future__ import annotations

import math

import pytest

from tests.soak.vitals import Vitals, growth_mb, per_hour, problems

IDLE = Vitals(0, 100, 20, 5, 10)


def samples(leak_mb_per_s: float = 0.0, warm_mb: float = 0.0) -> list[Vitals]:
    """Return 100 samples with a noise of 3 MB, a warm-up and a leak."""
    return [
        Vitals(
            t, 100 + 3 * math.sin(t * 1.7) + min(t, 20) * warm_mb / 20 + leak_mb_per_s * t, 30, 5, 9
        )
        for t in range(100)
    ]


def test_a_leak_is_noticed() -> None:
    assert growth_mb(samples(0.5)) == pytest.approx(24.5, abs=2)
    assert per_hour(samples(0.5)) == pytest.approx(1800, rel=0.1)
    (problem,) = problems(IDLE, samples(0.5), IDLE)
    assert problem.startswith("memory grew by 2")


def test_warm_up_and_noise_are_no_leak() -> None:
    assert abs(growth_mb(samples(warm_mb=80))) < 2
    assert problems(IDLE, samples(warm_mb=80), IDLE) == []


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (Vitals(0, 100, 25, 5, 10), "5 fds are left"),
        (Vitals(0, 100, 20, 8, 10), "3 threads are left"),
        (Vitals(0, 100, 20, 5, 15), "5 tasks are left"),
    ],
)
def test_what_is_left_behind_is_named(after: Vitals, problem: str) -> None:
    assert problems(IDLE, samples(), after) == [problem]


def test_without_samples_there_is_no_slope() -> None:
    assert growth_mb([]) == 0
    assert per_hour([]) == 0
    assert growth_mb(samples()[:3]) == 0
