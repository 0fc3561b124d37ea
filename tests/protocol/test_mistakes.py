"""Mistakes of a peer: forgiven at the speed of people, counted at that of programs."""

from __future__ import annotations

import pytest

from stream.protocol.mistakes import MAX_MISTAKES, Mistakes


def fatal_after(per_s: float, seconds: float, burst: int = 1) -> float | None:
    """Return the seconds after which `burst` mistakes at a time, `per_s` in all, end a stream."""
    mistakes = Mistakes()
    for n in range(round(seconds * per_s / burst)):
        for _ in range(burst):
            if mistakes.add(1e6 + n * burst / per_s):
                return n * burst / per_s
    return None


@pytest.mark.parametrize("per_s", [0.1, 1.0, 4.0])
def test_a_mistake_per_key_pressed_never_ends_a_stream(per_s: float) -> None:
    """A caller typed a card number, one unknown message per key, and the tenth ended the call."""
    assert fatal_after(per_s, 4 * 3600) is None


def test_a_program_that_dials_is_forgiven() -> None:
    assert fatal_after(10, 3.2, burst=1) is None


@pytest.mark.parametrize("per_s", [20.0, 1000.0])
def test_a_flood_ends_the_stream(per_s: float) -> None:
    after = fatal_after(per_s, 60)
    assert after is not None
    assert after < 2 * MAX_MISTAKES / per_s + 1


def test_after_a_rest_all_mistakes_are_forgiven() -> None:
    mistakes = Mistakes()
    for round_ in range(20):
        assert not any(mistakes.add(round_ * 60.0) for _ in range(MAX_MISTAKES - 1))


def test_the_last_mistake_is_that_of_the_limit() -> None:
    mistakes = Mistakes()
    assert [mistakes.add(1e6) for _ in range(MAX_MISTAKES)] == [False] * (MAX_MISTAKES - 1) + [True]
