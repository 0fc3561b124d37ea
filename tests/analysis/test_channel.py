"""Analysis of one channel under all schedules of a slow backend: all speech is accounted for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.analysis.channel import ChannelPipeline
from stream.analysis.talk import Activity, TalkDetector
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import DETECTORS, VadSettings
from stream.analysis.windows import WindowSettings
from stream.types import (
    FRAME,
    Gap,
    GapReason,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
)
from tests.support.one_channel import (
    CALM,
    SHORT,
    STANDARD,
    S,
    Slot,
    channel,
    check_accounting,
    speak,
)
from tests.support.signals import (
    clip_audio,
    clips,
    filtered,
    loudness,
    model,
    noise,
    silence,
    sine,
)

pytestmark = pytest.mark.usefixtures("loud_detector")


def check_windows(slot: Slot, settings_: WindowSettings, fed: NDArray[np.int16]) -> None:
    for window in slot.cut:
        assert window.length in settings_.lengths
        assert window.start % FRAME == 0
        real = max(window.start, slot.real_from[id(window)])
        audio = window.audio[real - window.start :] * 32768
        assert np.array_equal(audio, fed[real : window.end])
        assert window.start <= window.fresh < window.end
        for start, end in window.speech:
            assert real == window.heard <= start < end <= window.end


# -- every schedule ----------------------------------------------------------------------------

Runs = list[tuple[bool, int]]
"""Runs of voiced and unvoiced frames, with their lengths."""

pattern = st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=14)
actions = st.lists(
    st.sampled_from(["take", "score", "fail", "hang", "wait", "wait", "flush"]),
    min_size=1,
    max_size=30,
)


def play(
    slot: Slot, frames: Sequence[bool], sizes: Sequence[int], acts: Sequence[str]
) -> NDArray[np.int16]:
    """Feed `frames` in chunks with one action of `acts` after each; return the filtered audio."""
    audio = loudness(frames)
    at = index = 0
    while at < len(audio):
        size = sizes[index % len(sizes)]
        slot.run(slot.pipeline.feed(audio[at : at + size]))
        at += size
        match acts[index % len(acts)]:
            case "take":
                slot.take()
            case "score":
                slot.settle()
                slot.take()
            case "fail":
                slot.settle("inference_failed")
            case "hang":
                slot.settle("inference_timeout")
            case "flush":
                slot.run(slot.pipeline.flush())
        index += 1
    return filtered(audio)


@given(
    runs=pattern,
    sizes=st.lists(st.integers(100, 9000), min_size=1, max_size=4),
    acts=actions,
    windows=st.sampled_from(
        [SHORT, WindowSettings((S // 2, S), S // 4), WindowSettings((S,), S // 2)]
    ),
)
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
def test_all_speech_is_scored_or_reported_lost_under_any_schedule(
    runs: Runs, sizes: list[int], acts: list[str], windows: WindowSettings
) -> None:
    frames = [voiced for voiced, times in runs for _ in range(times)]
    slot = Slot(channel(windows=windows))
    fed = play(slot, frames, sizes, acts)
    slot.finish()
    check_windows(slot, windows, fed)
    check_accounting(slot)


@given(
    runs=pattern,
    hop=st.integers(12, 50),
    longest=st.integers(25, 60),
    hangover=st.integers(1, 24),
)
@example(runs=[(True, 49), (False, 29), (True, 60)], hop=50, longest=50, hangover=30)
@settings(deadline=None, max_examples=120)
def test_with_a_fast_backend_all_speech_is_scored_with_any_settings(
    runs: Runs, hop: int, longest: int, hangover: int
) -> None:
    """A pause inside an utterance delays the next window by up to the hangover, so that a window as
    long as one hop did not reach back to the window before it. The speech between the two counted
    as part of the utterance, but no window covered it and no gap was reported."""
    windows = WindowSettings((longest * FRAME,), min(hop, longest) * FRAME)
    vad = VadSettings("loud", hangover=hangover, pre_roll=5, max_utterance=200, only_speech=False)
    slot = Slot(channel(vad, windows))
    audio = loudness([voiced for voiced, times in runs for _ in range(times)])
    slot.run(slot.pipeline.feed(audio), prompt=True)
    slot.finish()
    check_windows(slot, windows, filtered(audio))
    check_accounting(slot)


@given(
    parts=st.lists(
        st.tuples(pattern, st.one_of(st.integers(0, 700), st.integers(700, 3 * S))),
        min_size=2,
        max_size=4,
    ),
    acts=actions,
    prompt=st.booleans(),
)
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
def test_all_speech_is_accounted_for_across_holes_in_the_audio(
    parts: list[tuple[Runs, int]], acts: list[str], prompt: bool
) -> None:
    """See `test_speech_before_a_hole_is_not_scored_on_mirrored_audio`."""
    slot = Slot(channel())
    for runs, skipped in parts:
        frames = [voiced for voiced, times in runs[:5] for _ in range(times)]
        before = slot.pipeline.position
        if prompt:
            slot.run(slot.pipeline.feed(loudness(frames)), prompt=True)
        else:
            play(slot, frames, [4000], acts)
        slot.run(slot.pipeline.skip(skipped), prompt=prompt)
        assert slot.pipeline.position == before + len(frames) * FRAME + skipped
        if slot.pipeline._history.start:
            slot.holes.append(slot.pipeline._history.start)
    slot.finish()
    check_accounting(slot)


# -- single cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [1, 2, 4, 9])
def test_a_single_superseded_window_is_covered_and_makes_no_gap(second: int) -> None:
    """The window that replaces a waiting one reaches back beyond it, so no speech is lost, and the
    range of lost speech ends before it starts. It was once reported as a gap of minus one second,
    for every superseded window of an utterance longer than the longest window."""
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, ("x" * 10 + "ts") * (second - 1) + "x" * 10 + "t" + "x" * 20 + "s t s")
    assert [w.end // S for w in slot.cut] == list(range(1, second + 3))
    assert [w.end // S for w in slot.taken] == [*range(1, second + 1), second + 2]
    assert slot.of(Gap) == []
    slot.finish()
    check_accounting(slot)
    assert slot.pipeline.lost == 0


def test_a_long_overload_first_widens_the_hop_and_then_reports_gaps() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "x" * 10 + "t" + "x" * 60)
    assert slot.of(Gap) == [
        Gap(0, S * n, S * (n + 1), S, "overload")
        for n in (1, 2, 3)  # windows to 5, 6 and 7 s reach back to 2, 3 and 4 s
    ]
    slot.finish()
    check_accounting(slot)
    (segment,) = slot.of(Segment)
    assert segment.covered == pytest.approx(4 / 7, abs=0.03)


def test_a_failed_window_loses_only_speech_that_no_other_window_scored() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "x" * 10 + "ts" + "x" * 10 + "tf")
    assert slot.of(Gap) == [Gap(0, S, 2 * S, S, "inference_failed")]
    slot.finish()


def test_an_utterance_whose_windows_all_fail_still_gets_its_segment_without_scores() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "..... xxxxxxxxxxxx ........ tf")
    (segment,) = slot.of(Segment)
    assert (segment.scores, segment.rolling, segment.covered) == ({}, {}, 0.0)
    assert segment.hints == ()
    assert slot.pipeline.scores.summary() == {}
    check_accounting(slot)


def test_segments_are_in_order_even_if_the_first_utterance_is_never_scored() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "xxxxx....... xxxxx....... xxxxx.......")
    assert slot.of(Segment) == []
    speak(slot, "ts")
    assert [s.utterance for s in slot.of(Segment)] == [0, 1, 2]
    check_accounting(slot)


def test_speech_before_a_hole_is_not_scored_on_mirrored_audio() -> None:
    """A hole of 0.5 s (a paused microphone, a chunk with NaN). The window after it holds only audio
    from after the hole, and the rest of its length is mirrored. It once listed the speech before
    the hole as well: scores of mirrored audio entered the timeline there, and speech that no model
    received counted as covered instead of being reported."""
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "x" * 8)
    slot.run(slot.pipeline.skip(S // 2))
    hole = slot.pipeline.position
    slot.holes.append(hole)
    speak(slot, "xxxx ! ts")
    last = slot.cut[-1]
    assert last.start < hole < last.end
    assert [speech for speech in last.speech if speech[0] < hole] == []
    check_accounting(slot)


def test_no_utterance_spans_a_hole() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "x" * 8)
    slot.run(slot.pipeline.skip(S))
    (end,) = slot.of(SpeechEnd)
    assert (end.start, end.at, end.trigger) == (0, 8 * S // 10, "flush")
    assert slot.pipeline.position == 18 * S // 10
    speak(slot, "x" * 8 + "!")
    assert slot.of(SpeechStart)[-1].at == 18 * S // 10


@pytest.mark.parametrize("samples", [0, 1, 17, 319, 320, 321, 639, 640, 641, 12_345, 3600 * S + 7])
@pytest.mark.parametrize("before", [0, 1, 160, 319, 320])
def test_any_number_of_samples_can_be_skipped(samples: int, before: int) -> None:
    pipeline = channel()
    list(pipeline.feed(silence(before / S)))
    list(pipeline.skip(samples))
    assert pipeline.position == before + samples
    list(pipeline.feed(silence(0.5)))
    assert pipeline.position == before + samples + S // 2


def test_speech_after_a_hole_has_its_true_position() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, ".")
    slot.run(slot.pipeline.skip(3 * S + 123))
    slot.run(slot.pipeline.feed(loudness([False] * 20 + [True] * 60)))
    first_voiced = slot.pipeline.position - 60 * FRAME
    (start,) = slot.of(SpeechStart)
    assert 0 <= first_voiced - 15 * FRAME - start.at < FRAME


def test_a_flush_gives_a_result_at_once_and_speech_continues() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "xxxx ! ts xxxxxxxx ! ts")
    assert [s.trigger for s in slot.of(Segment)] == ["flush", "flush"]
    assert slot.pipeline.speech == 12 * S // 10
    check_accounting(slot)
    speak(slot, "!!")
    assert len(slot.of(SpeechEnd)) == 2


def test_frames_are_those_of_the_newest_utterance_that_has_any() -> None:
    slot = Slot(channel(CALM, STANDARD, frames=True))
    assert slot.pipeline.frames() is None
    for number in range(2):
        speak(slot, "x" * 12)
        assert (found := slot.pipeline.frames()) is None or found.utterance == number - 1
        speak(slot, "ts")
        assert (found := slot.pipeline.frames()) is not None, "while it is open"
        assert found.utterance == number
        speak(slot, "." * 10)
        assert (found := slot.pipeline.frames()) is not None, "after it ended"
        assert found.utterance == number
        slot.take()
        slot.settle()


def test_without_a_request_scores_have_neither_frames_nor_embeddings() -> None:
    info = model(lengths=STANDARD.lengths)
    pipeline = ChannelPipeline(0, S, info, CALM, STANDARD, RollingSettings((2, 5)))
    slot = Slot(pipeline)
    speak(slot, "x" * 12 + "ts" + "." * 10 + "ts")
    (score, *_), (segment,) = slot.of(Score), slot.of(Segment)
    assert score.frames is None
    assert segment.embedding is None


@pytest.mark.parametrize("outcome", [None, "inference_failed"])
def test_a_tone_ends_its_utterance_whatever_became_of_the_windows_before_it(
    outcome: GapReason | None,
) -> None:
    """The segment of a tone waits for the windows before it, and those may be replaced or fail."""
    slot = Slot(channel(VadSettings("loud"), STANDARD))
    voice = clip_audio(clips()[0])
    slot.run(slot.pipeline.feed(np.concatenate([voice, silence(1)])))
    assert len(slot.cut) > 1, "windows that wait were replaced"
    slot.take()
    slot.settle(outcome)
    slot.run(slot.pipeline.feed(np.concatenate([sine(2, 440), silence(1)])))
    slot.finish()
    segments = slot.of(Segment)
    assert len(segments) == len(slot.of(SpeechEnd))
    assert "tone" in segments[-1].hints


def test_the_conversation_moves_over_a_hole_with_the_channel() -> None:
    pipeline = channel(CALM, STANDARD)
    pipeline.talk = TalkDetector()
    list(pipeline.feed(loudness([True] * 32)))
    list(pipeline.skip(2 * S))
    assert pipeline.talk.position == pipeline.position == 32 * FRAME + 2 * S
    assert (32 * FRAME, Activity.UNHEARD) in pipeline.talk.changes


def test_pauses_within_a_block_count_for_the_noise_floor() -> None:
    """A block of 16 frames in which speech begins has both."""
    slot = Slot(channel(CALM, STANDARD))
    slot.run(slot.pipeline.feed(noise(8 * FRAME / S, -42)))
    slot.run(slot.pipeline.feed(np.concatenate([noise(8 * FRAME / S, -42), noise(1, -12)])))
    slot.run(slot.pipeline.feed(silence(1)))
    slot.finish()
    (segment,) = slot.of(Segment)
    assert segment.quality.snr_db == pytest.approx(30, abs=3)


def test_faint_noise_is_never_speech_even_if_the_detector_accepts_it() -> None:
    class AlwaysSpeech:
        frame = FRAME

        def probability(self, samples: NDArray[np.int16]) -> float:
            return 1.0

    DETECTORS["always"] = lambda mode: AlwaysSpeech()
    try:
        slot = Slot(channel(VadSettings("always", min_dbfs=-60), STANDARD))
        slot.run(slot.pipeline.feed(noise(5, -63)))
        assert slot.events == []
        slot.run(slot.pipeline.feed(noise(1, -57)))
        assert len(slot.of(SpeechStart)) == 1
    finally:
        del DETECTORS["always"]


def test_memory_does_not_grow_over_an_hour_of_silence() -> None:
    pipeline = channel(VadSettings(), STANDARD)

    def size() -> int:
        own = [*vars(pipeline).values(), *vars(pipeline._history).values()]
        arrays = sum(v.nbytes for v in own if isinstance(v, np.ndarray))
        return arrays + len(pipeline._unsettled) + len(pipeline._windower._ended)

    minute = silence(60)
    assert list(pipeline.feed(minute)) == []
    before = size()
    for _ in range(59):
        assert list(pipeline.feed(minute)) == []
    assert pipeline.position == 3600 * S
    assert size() == before
