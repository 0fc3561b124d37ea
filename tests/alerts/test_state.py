"""States of one rule: when an alert begins and ends. The clock is audio."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.alerts.state import STALE, UPDATE, Change, RuleState
from stream.types import SAMPLE_RATE as S


def steps(state: RuleState, *values: tuple[float, float]) -> list[tuple[str, float]]:
    """Feed (seconds, value); return state and seconds of every step."""
    found = [state.observe(round(at * S), value) for at, value in values]
    return [(change.state, change.at / S) for change in found if change is not None]


def test_an_alert_begins_at_the_level_and_ends_below_the_clear_level() -> None:
    state = RuleState(0.6, 0.4, 0, 0)
    assert steps(state, (1, 0.5), (2, 0.6), (3, 0.45), (4, 0.4), (5, 0.39)) == [
        ("new", 2),
        ("end", 5),
    ]


def test_a_value_that_wavers_around_the_level_makes_one_alert() -> None:
    state = RuleState(0.6, 0.4, 0, 0)
    wavering = [(n, 0.61 if n % 2 else 0.45) for n in range(1, 9)]
    assert steps(state, *wavering) == [("new", 1)]


def test_the_condition_must_hold_without_a_break() -> None:
    state = RuleState(0.6, 0.4, 3 * S, 0)
    assert steps(state, (1, 0.7), (2, 0.5), (3, 0.7), (5, 0.7), (6, 0.7)) == [("new", 6)]


def test_silence_does_not_count_as_holding() -> None:
    """One angry word, a minute of silence, another one: that is not a minute of anger."""
    state = RuleState(0.6, 0.4, 3 * S, 0)
    assert steps(state, (1, 0.7), (61, 0.7)) == []
    assert steps(state, (63, 0.7), (64, 0.7)) == [("new", 64)]


def test_since_is_where_the_condition_began_to_hold() -> None:
    state = RuleState(0.6, 0.4, 3 * S, 0)
    state.observe(2 * S, 0.7)
    change = state.observe(5 * S, 0.9)
    assert change == Change("new", 1, 0.9, 0.9, 2 * S, 5 * S)


def test_no_alert_begins_within_the_cooldown() -> None:
    state = RuleState(0.6, 0.4, 0, 30 * S)
    assert steps(state, (1, 0.7), (2, 0.1), (3, 0.7), (31, 0.7), (32, 0.7)) == [
        ("new", 1),
        ("end", 2),
        ("new", 32),
    ]


def test_an_open_alert_is_updated_every_ten_seconds_with_its_peak() -> None:
    state = RuleState(0.6, 0.4, 0, 0)
    values = [(1.0 + n, 0.9 if n == 3 else 0.7) for n in range(25)]
    assert steps(state, *values) == [("new", 1), ("update", 11), ("update", 21)]
    end = state.observe(30 * S, 0.0)
    assert end is not None
    assert (end.peak, end.number, end.reason) == (0.9, 1, "cleared")
    assert UPDATE == 10 * S


def test_an_alert_ends_when_nothing_can_be_judged_any_more() -> None:
    """The customer hangs up or the line plays music: the alert must not stay open for ever."""
    state = RuleState(0.6, 0.4, 0, 0)
    state.observe(1 * S, 0.7)
    assert state.tick(1 * S + STALE - 1) is None
    change = state.tick(1 * S + STALE)
    assert change is not None
    assert (change.state, change.reason) == ("end", "no_speech")
    assert state.tick(2 * S + STALE) is None


def test_the_end_of_the_stream_ends_an_open_alert_and_only_that() -> None:
    state = RuleState(0.6, 0.4, 0, 0)
    assert state.end(S, "stream_ended") is None
    state.observe(1 * S, 0.7)
    change = state.end(2 * S, "stream_ended")
    assert change is not None
    assert change.reason == "stream_ended"
    assert state.end(3 * S, "stream_ended") is None


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), max_size=80),
    st.integers(0, 5),
    st.integers(0, 20),
)
def test_steps_alternate_whatever_comes(
    values: list[tuple[int, float]], hold: int, cooldown: int
) -> None:
    """Every `new` has one `end`, in order, with the same number; nothing begins when below."""
    state, at, found = RuleState(0.6, 0.4, hold * S, cooldown * S), 0, []
    for wait, value in values:
        at += wait * S
        ticked = state.tick(at)
        change = state.observe(at, value)
        if change is not None and change.state == "new":
            assert value >= 0.6
        found += [step for step in (ticked, change) if step is not None]
    last = state.end(at, "stream_ended")
    found += [last] if last is not None else []
    is_open, number, ended_at = False, 0, -(10**9)
    for step in found:
        if step.state == "new":
            assert not is_open
            assert step.number == number + 1
            assert step.at - ended_at >= cooldown * S
            assert step.at - step.since >= hold * S
            is_open, number = True, step.number
        else:
            assert is_open
            assert step.number == number
            assert step.peak >= 0.6
            if step.state == "end":
                is_open, ended_at = False, step.at
    assert not is_open
