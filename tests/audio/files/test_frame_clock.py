"""Timeline of a container: holes become silence, faulty clocks do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.audio.files.frame_clock import MAX_HOLE_S, TOLERANCE_S, FrameClock, Timing

FRAME = 0.02


def placed(*starts: float | None, origin: float = 0.0, max_s: float = 7200.0) -> list[float]:
    """Return the silence before each frame of 20 ms."""
    clock = FrameClock(origin, max_s)
    return [round(clock.place(start, FRAME), 6) for start in starts]


def test_frames_in_a_row_get_no_silence() -> None:
    assert placed(0, 0.02, 0.04, None, 0.08) == [0] * 5
    assert placed(0.007, 0.027, 0.047) == [0] * 3


def test_a_hole_and_a_late_beginning_become_silence() -> None:
    assert placed(5, 5.02, 25.04) == [5, 0, 20]
    assert placed(105, 105.02, origin=100) == [5, 0]


def test_many_small_holes_are_corrected_once_they_add_up() -> None:
    """A browser that drops packets: each hole is below the tolerance, all of them are not."""
    starts = [number * 0.06 for number in range(10)]
    silence = placed(*starts)
    assert sum(silence) == pytest.approx(starts[-1] - 9 * FRAME, abs=TOLERANCE_S)


def test_sound_before_the_beginning_begins_with_it() -> None:
    assert placed(-0.5, -0.48, 3) == [0, 0, 3.46]
    assert placed(-90_000, -89_999.98) == [0, 0]


@pytest.mark.parametrize("jump", [95_443.7, 1e12, MAX_HOLE_S + 1])
def test_a_jump_of_hours_is_left_out(jump: float) -> None:
    """A bogus time stamp must neither fill the disk with silence nor refuse the recording."""
    clock = FrameClock(0.0, 7200.0)
    silence = [clock.place(start, FRAME) for start in (0, 0.02 + jump, 0.04 + jump, 0.06)]
    assert silence == pytest.approx([0, 0, 0, 0], abs=1e-3)
    assert clock.timing.jumps == 1


def test_a_return_to_an_earlier_time_goes_on_without_a_hole() -> None:
    clock = FrameClock(0.0)
    silence = [clock.place(start, FRAME) for start in (0, 0.5, 0, 0.02, 1.04)]
    assert silence == pytest.approx([0, 0.48, 0, 0, 1.0])
    assert clock.timing == Timing(holes=2, silence_s=1.48, restarts=1)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9, allow_nan=False)), max_size=60),
    st.floats(1, 7200),
)
def test_silence_never_exceeds_the_limit(starts: list[float | None], max_s: float) -> None:
    clock = FrameClock(0.0, max_s)
    silence = [clock.place(start, FRAME) for start in starts]
    assert all(0 <= one <= MAX_HOLE_S for one in silence)
    assert sum(silence) <= max_s + 0.01
