"""Estimate of a batch's time, and the largest batch within a time."""

from __future__ import annotations

import pytest

from stream.inference.batch_cost import BatchCost

LENGTH = 16_000


def learned(fixed_s: float, row_s: float, *sizes: int) -> BatchCost:
    cost = BatchCost()
    for size in sizes:
        cost.add(size * LENGTH, fixed_s + row_s * size)
    return cost


def test_nothing_is_known_before_the_first_batch() -> None:
    assert BatchCost().parts == (0, 0)
    assert BatchCost().most(0.02, LENGTH, 32) == 32


def test_the_fixed_part_and_the_part_per_sample_are_found() -> None:
    fixed, slope = learned(0.01, 0.003, 1, 4, 2, 8, 1).parts
    assert fixed == pytest.approx(0.01)
    assert slope * LENGTH == pytest.approx(0.003)


def test_batches_of_one_size_count_as_without_a_fixed_part() -> None:
    fixed, slope = learned(0.01, 0.003, 4, 4, 4).parts
    assert fixed == 0
    assert slope * LENGTH == pytest.approx(0.022 / 4)


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "most"),
    [
        (0.0, 0.004, 5),
        (0.002, 0.004, 4),
        (0.0, 0.1, 1),  # a window alone takes longer
        (0.001, 0.0001, 32),
        (0.05, 0.005, 10),  # a smaller batch would be hardly faster
        (0.03, 0.0005, 32),  # a GPU, whose batches must not shrink to single windows
    ],
)
def test_the_largest_batch_within_a_time(fixed_s: float, row_s: float, most: int) -> None:
    found = learned(fixed_s, row_s, 1, 2, 4, 8).most(0.0201, LENGTH, 32)
    assert abs(found - most) <= (1 if most == 10 else 0)


def test_batches_do_not_shrink_step_by_step_where_a_call_is_what_costs() -> None:
    """The cost per window rose as batches became smaller, so they became smaller still."""
    cost, size = BatchCost(), 32
    for _ in range(100):
        cost.add(size * LENGTH, 0.03 + 0.0005 * size)
        size = cost.most(0.02, LENGTH, 32)
    assert size == 32


def test_the_estimate_follows_a_machine_that_becomes_slower() -> None:
    cost = learned(0.0, 0.001, *[1, 2, 4, 8] * 25)
    for size in [1, 2, 4, 8] * 25:
        cost.add(size * LENGTH, 0.004 * size)
    assert cost.most(0.0201, LENGTH, 32) == 5
