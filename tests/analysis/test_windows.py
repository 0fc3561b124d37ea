"""Windows hold the right audio, and none of the speech falls between two of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.quality import QualityMeter
from stream.analysis.windows import History, Windower, WindowSettings, clip, total
from stream.types import FRAME, SAMPLE_RATE, Utterance, Window

S = SAMPLE_RATE
RAMP = (np.arange(60 * S) % 30_000).astype(np.int16)


def filled(seconds: float, capacity: int = 8 * S) -> History:
    history = History(capacity)
    for at in range(0, round(seconds * S), FRAME):
        history.write(RAMP[at : at + FRAME])
    return history


def windower(seconds: float = 60, **changes: object) -> Windower:
    history = filled(seconds, capacity=60 * S)
    return Windower(WindowSettings(**changes), 0, history, QualityMeter(S))


def listen(w: Windower, start: float, end: float, take: bool = True) -> list[Window]:
    """Speech from `start` to `end` seconds, frame by frame; every window is taken at once."""
    windows = []
    for reached in range(round(start * S) + FRAME, round(end * S) + FRAME, FRAME):
        for window in w.hear(Utterance(0, round(start * S), reached)):
            windows.append(window)
            if take:
                w.taken(window)
    return windows


def in_s(window: Window) -> tuple[float, float]:
    return window.start / S, window.end / S


# -- history -----------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 50), max_size=40),
    capacity=st.integers(50, 90),
    back=st.integers(0, 50),
    length=st.integers(1, 50),
)
@settings(deadline=None, max_examples=150)
def test_the_ring_gives_back_what_was_written(sizes, capacity, back, length) -> None:
    history, everything = History(capacity), np.zeros(0, np.int16)
    for size in sizes:
        fresh = RAMP[len(everything) : len(everything) + size]
        history.write(fresh)
        everything = np.concatenate([everything, fresh])
    end = max(0, len(everything) - back)
    start = end - length
    if start < max(0, len(everything) - capacity):
        return
    assert history.end == len(everything)
    assert (history.read(start, end) * 32768).tolist() == everything[start:end].tolist()


def test_before_the_stream_the_audio_is_mirrored() -> None:
    history = filled(0.02)
    audio = history.read(FRAME - 4 * FRAME, FRAME) * 32768
    assert len(audio) == 4 * FRAME
    forth, back = RAMP[:FRAME].tolist(), RAMP[:FRAME].tolist()[::-1]
    assert audio.tolist() == back + forth + back + forth


def test_after_a_jump_nothing_from_before_it_is_read() -> None:
    history = filled(3)
    history.jump(10 * S)
    history.write(np.full(FRAME, 77, np.int16))
    audio = history.read(10 * S + FRAME - S, 10 * S + FRAME) * 32768
    assert audio.tolist() == [77] * S


def test_reading_gives_a_copy_that_later_audio_does_not_change() -> None:
    history = filled(1, capacity=S)
    audio = history.read(0, S)
    before = audio.tobytes()
    history.write(np.full(S, 1, np.int16))
    assert audio.tobytes() == before


# -- windower ----------------------------------------------------------------------------------


def test_a_window_is_due_after_every_hop_of_speech() -> None:
    windows = listen(windower(), 2.0, 7.5)
    assert [window.end / S for window in windows] == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert {window.trigger for window in windows} == {"interval"}


def test_windows_grow_with_the_utterance_and_then_slide() -> None:
    windows = listen(windower(), 2.0, 7.5)
    assert [in_s(w) for w in windows] == [(2, 3), (2, 4), (2, 5), (3, 6), (4, 7)]
    assert [w.fresh / S for w in windows] == [2, 3, 4, 5, 6]


def test_a_short_utterance_is_back_filled_with_the_real_audio_before_it() -> None:
    window = windower().close(Utterance(0, round(4.6 * S), 5 * S))
    assert window is not None
    assert in_s(window) == (4.0, 5.0)
    assert window.speech == ((round(4.6 * S), 5 * S),)
    assert (window.audio * 32768).tolist() == RAMP[4 * S : 5 * S].tolist()


def test_at_the_end_of_an_utterance_the_rest_is_cut_and_says_why() -> None:
    w = windower()
    windows = listen(w, 2.0, 4.5)
    last = w.close(Utterance(0, 2 * S, round(4.5 * S), "flush"))
    assert last is not None
    assert [*map(in_s, windows), in_s(last)] == [(2, 3), (2, 4), (1.5, 4.5)]
    assert last.trigger == "flush"
    assert last.fresh == 4 * S


def test_an_utterance_that_ends_on_a_hop_is_not_cut_twice() -> None:
    w = windower()
    assert len(listen(w, 2.0, 4.0)) == 2
    assert w.close(Utterance(0, 2 * S, 4 * S)) is None


def test_a_skipped_hop_is_covered_by_the_next_window() -> None:
    w = windower()
    listen(w, 2.0, 4.0)
    first, second = listen(w, 2.0, 6.0, take=False)[-2:]
    assert first.fresh == second.fresh == 4 * S
    assert second.start <= 4 * S


def test_speech_of_an_utterance_before_is_in_the_window_and_not_its_pause() -> None:
    w = windower()
    w.close(Utterance(0, 5 * S, 6 * S))
    window = w.close(Utterance(1, round(6.8 * S), round(7.4 * S)))
    assert window is not None
    assert in_s(window) == (4.4, 7.4)
    assert window.speech == ((5 * S, 6 * S), (round(6.8 * S), round(7.4 * S)))
    assert window.fresh == 5 * S


@pytest.mark.parametrize("lengths", [(S,), (S, 3 * S), (2 * S, 4 * S)])
def test_windows_have_only_the_lengths_that_were_set(lengths: tuple[int, ...]) -> None:
    w = windower(lengths=lengths, hop=S // 2)
    windows = listen(w, 1.0, 8.0)
    last = w.close(Utterance(0, S, round(8.2 * S)))
    assert {n.length for n in [*windows, last] if n} <= set(lengths)
    assert windows[-1].length == lengths[-1]


def test_a_window_at_the_stream_s_start_is_as_long_as_any() -> None:
    history = filled(0.1)
    w = Windower(WindowSettings(), 0, history, QualityMeter(S))
    window = w.close(Utterance(0, 0, FRAME * 5))
    assert window is not None
    assert (window.start, window.length) == (FRAME * 5 - S, S)
    assert window.speech == ((0, FRAME * 5),)
    assert window.heard == 0


def test_an_hour_of_utterances_leaves_nothing_behind() -> None:
    history = History(8 * S)
    w = Windower(WindowSettings(), 0, history, QualityMeter(8_000))
    held = []
    for n in range(1, 3600):
        history.jump(n * S)
        history.write(RAMP[: S // 2])
        window = w.close(Utterance(n, n * S, n * S + S // 2))
        assert window is not None
        w.taken(window)
        held.append(len(w._ended))
    assert max(held) <= 4


# -- spans -------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
)
@example([(0, 9)], 6, 3)
def test_clipping_keeps_what_lies_inside(gaps, start, end) -> None:
    """Nothing lies inside a range that ends before it starts: not even a span of negative length,
    which a gap then told the world as speech of negative duration."""
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    got = clip(tuple(spans), start, end)
    inside = {p for a, b in spans for p in range(a, b) if start <= p < end}
    assert {p for a, b in got for p in range(a, b)} == inside
    assert total(got) == len(inside)
    assert all(a < b for a, b in got)
