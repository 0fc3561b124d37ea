"""Windowing: windows hold the right audio, and together they cover all speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.quality import QualityMeter
from stream.analysis.windows import History, Windower, WindowSettings, clip, total
from stream.types import FRAME, SAMPLE_RATE, Samples, Utterance, Window

S = SAMPLE_RATE
STANDARD = WindowSettings()
RAMP = (np.arange(60 * S) % 30_000).astype(np.int16)


def filled(seconds: float, capacity: int = 8 * S) -> History:
    history = History(capacity)
    for at in range(0, round(seconds * S), FRAME):
        history.write(RAMP[at : at + FRAME])
    return history


def windower(settings: WindowSettings = STANDARD) -> Windower:
    return Windower(settings, 0, filled(60, capacity=60 * S), QualityMeter(S))


def speak(w: Windower, start: float, end: float, take: bool = True) -> list[Window]:
    """Extend an utterance from `start` to `end` seconds frame by frame; return its windows.

    With `take`, every window is taken at once.
    """
    windows = []
    for position in range(round(start * S) + FRAME, round(end * S) + FRAME, FRAME):
        for window in w.extend(Utterance(0, round(start * S), position)):
            windows.append(window)
            if take:
                w.taken(window)
    return windows


class Recorder(QualityMeter):
    """Meter that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(S)
        self.sounds: list[Samples] = []
        self.spectra: list[Samples] = []

    def sound(self, audio: Samples) -> None:
        self.sounds.append(audio)
        super().sound(audio)

    def spectrum(self, audio: Samples) -> None:
        self.spectra.append(audio)
        super().spectrum(audio)


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
def test_the_ring_returns_the_audio_that_was_written(
    sizes: list[int], capacity: int, back: int, length: int
) -> None:
    history, written = History(capacity), np.zeros(0, np.int16)
    for size in sizes:
        new = RAMP[len(written) : len(written) + size]
        history.write(new)
        written = np.concatenate([written, new])
    end = max(0, len(written) - back)
    start = end - length
    if start < max(0, len(written) - capacity):
        return
    assert history.end == len(written)
    assert (history.read(start, end) * 32768).tolist() == written[start:end].tolist()


def test_audio_before_the_stream_is_mirrored() -> None:
    history = filled(0.02)
    audio = history.read(FRAME - 4 * FRAME, FRAME) * 32768
    assert len(audio) == 4 * FRAME
    forward, back = RAMP[:FRAME].tolist(), RAMP[:FRAME].tolist()[::-1]
    assert audio.tolist() == back + forward + back + forward


def test_no_audio_from_before_a_jump_is_read() -> None:
    history = filled(3)
    history.jump(10 * S)
    history.write(np.full(FRAME, 77, np.int16))
    audio = history.read(10 * S + FRAME - S, 10 * S + FRAME) * 32768
    assert audio.tolist() == [77] * S


def test_read_returns_a_copy_that_later_audio_does_not_change() -> None:
    history = filled(1, capacity=S)
    audio = history.read(0, S)
    before = audio.tobytes()
    history.write(np.full(S, 1, np.int16))
    assert audio.tobytes() == before


# -- windower ----------------------------------------------------------------------------------


def test_a_window_is_due_after_every_hop_of_speech() -> None:
    windows = speak(windower(), 2.0, 7.5)
    assert [window.end / S for window in windows] == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert {window.trigger for window in windows} == {"interval"}


def test_a_window_is_due_exactly_when_extending_gives_one() -> None:
    w = windower()
    for position in range(2 * S, 6 * S, FRAME):
        due = w.due(2 * S, position)
        windows = list(w.extend(Utterance(0, 2 * S, position)))
        assert due == bool(windows)
        assert due == (position in (3 * S, 4 * S, 5 * S))


def test_windows_grow_with_the_utterance_and_then_slide() -> None:
    windows = speak(windower(), 2.0, 7.5)
    assert [in_s(w) for w in windows] == [(2, 3), (2, 4), (2, 5), (3, 6), (4, 7)]
    assert [w.fresh / S for w in windows] == [2, 3, 4, 5, 6]


def test_the_meter_gets_every_sample_of_an_utterance_once_and_every_window() -> None:
    """Without its new audio no sound is classified: tones and hiss would be scored as speech."""
    meter = Recorder()
    w = Windower(STANDARD, 0, filled(60, capacity=60 * S), meter)
    windows = speak(w, 10, 13.5, take=False)
    last = w.close(Utterance(0, 10 * S, round(13.5 * S)))
    assert last is not None
    heard = np.concatenate(meter.sounds) * 32768
    assert heard.tolist() == RAMP[10 * S : round(13.5 * S)].tolist()
    given = [window.audio for window in (*windows, last)]
    assert [audio.tobytes() for audio in meter.spectra] == [audio.tobytes() for audio in given]


def test_a_dropped_window_is_in_no_later_one_and_its_new_samples_are_counted() -> None:
    w = windower()
    (first,) = speak(w, 10, 11)
    assert w.drop(first) == S
    (second,) = w.extend(Utterance(0, 10 * S, 12 * S))
    assert w.drop(second) == S
    (third,) = w.extend(Utterance(0, 10 * S, 13 * S))
    assert third.speech == ((12 * S, 13 * S),)


def test_a_short_utterance_is_padded_with_the_real_audio_before_it() -> None:
    window = windower().close(Utterance(0, round(4.6 * S), 5 * S))
    assert window is not None
    assert in_s(window) == (4.0, 5.0)
    assert window.speech == ((round(4.6 * S), 5 * S),)
    assert (window.audio * 32768).tolist() == RAMP[4 * S : 5 * S].tolist()


def test_the_last_window_of_an_utterance_covers_the_rest_and_has_its_trigger() -> None:
    w = windower()
    windows = speak(w, 2.0, 4.5)
    last = w.close(Utterance(0, 2 * S, round(4.5 * S), "flush"))
    assert last is not None
    assert [*map(in_s, windows), in_s(last)] == [(2, 3), (2, 4), (1.5, 4.5)]
    assert last.trigger == "flush"
    assert last.fresh == 4 * S


def test_an_utterance_that_ends_on_a_hop_gets_no_second_window() -> None:
    w = windower()
    assert len(speak(w, 2.0, 4.0)) == 2
    assert w.close(Utterance(0, 2 * S, 4 * S)) is None


def test_a_skipped_hop_is_covered_by_the_next_window() -> None:
    w = windower()
    speak(w, 2.0, 4.0)
    first, second = speak(w, 2.0, 6.0, take=False)[-2:]
    assert first.fresh == second.fresh == 4 * S
    assert second.start <= 4 * S


def test_a_window_lists_the_speech_of_the_previous_utterance_without_the_pause() -> None:
    w = windower()
    w.close(Utterance(0, 5 * S, 6 * S))
    window = w.close(Utterance(1, round(6.8 * S), round(7.4 * S)))
    assert window is not None
    assert in_s(window) == (4.4, 7.4)
    assert window.speech == ((5 * S, 6 * S), (round(6.8 * S), round(7.4 * S)))
    assert window.fresh == 5 * S


@pytest.mark.parametrize("lengths", [(S,), (S, 3 * S), (2 * S, 4 * S)])
def test_windows_have_only_the_configured_lengths(lengths: tuple[int, ...]) -> None:
    w = windower(WindowSettings(lengths, hop=S // 2))
    windows = speak(w, 1.0, 8.0)
    last = w.close(Utterance(0, S, round(8.2 * S)))
    assert {n.length for n in [*windows, last] if n} <= set(lengths)
    assert windows[-1].length == lengths[-1]


def test_a_window_at_the_start_of_the_stream_has_full_length() -> None:
    history = filled(0.1)
    w = Windower(WindowSettings(), 0, history, QualityMeter(S))
    window = w.close(Utterance(0, 0, FRAME * 5))
    assert window is not None
    assert (window.start, window.length) == (FRAME * 5 - S, S)
    assert window.speech == ((0, FRAME * 5),)
    assert window.heard == 0


def test_memory_does_not_grow_over_an_hour_of_utterances() -> None:
    history = History(8 * S)
    w = Windower(WindowSettings(), 0, history, QualityMeter(8_000))
    lengths = []
    for n in range(1, 3600):
        history.jump(n * S)
        history.write(RAMP[: S // 2])
        window = w.close(Utterance(n, n * S, n * S + S // 2))
        assert window is not None
        w.taken(window)
        lengths.append(len(w._ended))
    assert max(lengths) <= 4


# -- spans -------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), max_size=6),
    st.integers(0, 60),
    st.integers(0, 60),
)
@example([(0, 9)], 6, 3)
def test_clip_keeps_the_parts_inside_the_range(
    gaps: list[tuple[int, int]], start: int, end: int
) -> None:
    """A range that ends before it starts contains no span, not even one of negative length. Such a
    span was once emitted as a gap with a negative duration."""
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    got = clip(tuple(spans), start, end)
    inside = {p for a, b in spans for p in range(a, b) if start <= p < end}
    assert {p for a, b in got for p in range(a, b)} == inside
    assert total(got) == len(inside)
    assert all(a < b for a, b in got)
