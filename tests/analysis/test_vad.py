"""Voice activity detection: beginning and end of utterances, frame by frame."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis.vad import DETECTORS, Segmenter, VadSettings
from stream.types import FRAME, Utterance
from tests.support.signals import clip_audio, clips, int16

PLAIN = VadSettings(start_voiced=3, start_of=5, pre_roll=2, hangover=4, max_utterance=40)

Ended = tuple[int, int, str]
"""Start and end of an utterance in frames, and its trigger."""


def script(text: str) -> list[bool]:
    """Parse decisions: `x` is a voiced frame, `.` an unvoiced one; blanks are ignored."""
    return [c == "x" for c in text.replace(" ", "")]


def run(segmenter: Segmenter, decisions: Iterable[bool]) -> list[Ended]:
    """Feed all decisions; return the utterances that ended, in frames."""
    ended = [segmenter.step(voiced) for voiced in decisions]
    return [in_frames(utterance) for utterance in ended if utterance is not None]


def in_frames(utterance: Utterance) -> Ended:
    assert utterance.start % FRAME == utterance.end % FRAME == 0
    return utterance.start // FRAME, utterance.end // FRAME, utterance.trigger


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("..........", []),
        ("x.x.......", []),
        ("xx...xx...", []),
        # 3 of 5 voiced; 2 frames of pre-roll, 4 of hangover, which are not speech
        ("....xxx....", [(2, 7, "speech_end")]),
        ("....x.x.x....", [(2, 9, "speech_end")]),
        ("....x..xx....", [(2, 9, "speech_end")]),
        ("....x...xx....", []),
        # the pre-roll stops at the start of the stream
        ("xxx....", [(0, 3, "speech_end")]),
        (".xxx....", [(0, 4, "speech_end")]),
        # a pause shorter than the hangover does not end the utterance, and counts as speech
        ("....xxx...x....", [(2, 11, "speech_end")]),
        ("....xxx....x....", [(2, 7, "speech_end")]),
        # the pre-roll stops at the end of the previous utterance: 7 + hangover 4 = 11
        ("....xxx....xxx....", [(2, 7, "speech_end"), (9, 14, "speech_end")]),
    ],
)
def test_an_utterance_includes_its_pre_roll_and_not_its_hangover(
    frames: str, expected: list[Ended]
) -> None:
    assert run(Segmenter(PLAIN), script(frames)) == expected


def test_pre_roll_never_reaches_into_the_previous_utterance() -> None:
    settings_ = replace(PLAIN, pre_roll=15, hangover=2)
    got = run(Segmenter(settings_), script("xxx.. xxx.."))
    assert got == [(0, 3, "speech_end"), (3, 8, "speech_end")]


@pytest.mark.parametrize("start", [(1, 1), (1, 5), (3, 3), (3, 5), (5, 5)])
def test_an_utterance_that_is_too_long_is_split_without_losing_a_frame(
    start: tuple[int, int],
) -> None:
    """Speech continues through the split: no frame may be lost, counted twice or re-detected."""
    voiced, of = start
    segmenter = Segmenter(VadSettings(start_voiced=voiced, start_of=of, max_utterance=40))
    ended = run(segmenter, [True] * 100)
    assert ended == [(0, 40, "split"), (40, 80, "split")]
    assert segmenter.speech == Utterance(2, 80 * FRAME, 100 * FRAME)


def test_silence_after_a_split_makes_no_empty_utterance() -> None:
    segmenter = Segmenter(PLAIN)
    assert run(segmenter, [True] * 40 + [False] * 50) == [(0, 40, "split")]
    assert segmenter.speech is None
    assert segmenter.close("flush") is None


def test_a_short_pause_right_after_a_split_loses_nothing() -> None:
    segmenter = Segmenter(PLAIN)
    assert run(segmenter, [True] * 40 + script(".x....")) == [
        (0, 40, "split"),
        (40, 42, "speech_end"),
    ]


@pytest.mark.parametrize(
    ("frames", "ended"),
    [
        ("", None),
        ("...", None),
        ("..x", None),
        ("..xx", None),
        ("..xxx", (0, 5, "flush")),
        ("..xxx..", (0, 5, "flush")),
        ("..xxx....", None),
    ],
)
def test_a_flush_ends_the_open_utterance_in_every_state(frames: str, ended: Ended | None) -> None:
    segmenter = Segmenter(PLAIN)
    run(segmenter, script(frames))
    assert segmenter.speaking == (ended is not None)
    utterance = segmenter.close("flush")
    assert (utterance and in_frames(utterance)) == ended
    assert segmenter.speech is None
    assert segmenter.close("flush") is None


@pytest.mark.parametrize("before", ["..xx", "..xxx", "..xxx.x"])
def test_frames_before_a_flush_do_not_help_to_start_the_next_utterance(before: str) -> None:
    """A flush ends what was said; two clicks around it are no three voiced frames of five."""
    segmenter = Segmenter(PLAIN)
    run(segmenter, script(before))
    segmenter.close("flush")
    assert run(segmenter, script("xx.......")) == []
    assert segmenter.speech is None


def test_speech_continues_without_a_missing_frame_after_a_flush() -> None:
    segmenter = Segmenter(PLAIN)
    run(segmenter, script("..xxxxx"))
    segmenter.close("flush")
    assert run(segmenter, script("xxxx....")) == [(7, 11, "speech_end")]


def test_pre_roll_never_reaches_into_a_hole() -> None:
    segmenter = Segmenter(replace(PLAIN, pre_roll=15))
    run(segmenter, script("....xx"))
    segmenter.jump(1000 * FRAME)
    assert run(segmenter, script("..x.")) == []  # the two from before the hole do not count
    assert run(segmenter, script("xx....")) == [(1000, 1006, "speech_end")]


def test_decisions_before_a_hole_do_not_count_after_it() -> None:
    segmenter = Segmenter(VadSettings())
    for _ in range(3):
        segmenter.step(True)
    segmenter.jump(100 * FRAME)
    for voiced in (False, True, True, True, True, False, False, False, False):
        segmenter.step(voiced)
        assert not segmenter.speaking
    run(segmenter, [True] * 5)
    assert segmenter.speaking


def test_utterances_are_numbered_without_holes() -> None:
    segmenter = Segmenter(PLAIN)
    indexes = [u.index for v in script("xxx.... xxx.... xxx....") if (u := segmenter.step(v))]
    assert indexes == [0, 1, 2]


@given(
    decisions=st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=30),
    flushes=st.sets(st.integers(0, 300), max_size=4),
    start_voiced=st.integers(1, 4),
    hangover=st.integers(1, 10),
    pre_roll=st.integers(0, 12),
)
@settings(deadline=None, max_examples=150)
def test_utterances_are_in_order_disjoint_and_never_empty(
    decisions: list[tuple[bool, int]],
    flushes: set[int],
    start_voiced: int,
    hangover: int,
    pre_roll: int,
) -> None:
    longest = 50
    segmenter = Segmenter(VadSettings("", 0, start_voiced, 5, pre_roll, hangover, longest))
    frames = [voiced for voiced, times in decisions for _ in range(times)]
    ended: list[Utterance] = []
    for n, voiced in enumerate(frames):
        if n in flushes:
            ended += filter(None, [segmenter.close("flush")])
        ended += filter(None, [segmenter.step(voiced)])
        speech = segmenter.speech
        if speech is not None:
            assert 0 <= speech.start < speech.end <= (n + 1) * FRAME
    ended += filter(None, [segmenter.close("flush")])
    assert [u.index for u in ended] == list(range(len(ended)))
    last = 0
    for utterance in ended:
        assert last <= utterance.start < utterance.end <= len(frames) * FRAME
        assert utterance.end - utterance.start <= (longest + hangover) * FRAME
        assert frames[utterance.end // FRAME - 1]
        last = utterance.end
    # Three or more voiced frames in a row are never missed, unless a flush interrupts them.
    covered = np.zeros(len(frames) + 1, bool)
    for utterance in ended:
        covered[utterance.start // FRAME : utterance.end // FRAME] = True
    if not flushes:
        for n in range(len(frames) - 4):
            if all(frames[n : n + 5]):
                assert covered[n : n + 5].all()


def test_memory_does_not_grow_over_an_hour_of_silence() -> None:
    segmenter = Segmenter(VadSettings())

    def size() -> int:
        return sum(sys.getsizeof(value) for value in vars(segmenter).values())

    run(segmenter, [False] * 3000)
    before = size()
    assert run(segmenter, [False] * 180_000) == []
    assert size() <= before + 64  # a position is a larger int now


@given(
    blocks=st.lists(
        st.tuples(st.booleans(), st.integers(1, 16), st.booleans()), min_size=1, max_size=40
    ),
    start_voiced=st.integers(1, 5),
    hangover=st.integers(1, 20),
    longest=st.integers(10, 60),
)
@settings(deadline=None, max_examples=300)
def test_equal_decisions_processed_at_once_give_the_same_utterances(
    blocks: list[tuple[bool, int, bool]], start_voiced: int, hangover: int, longest: int
) -> None:
    settings_ = VadSettings("", 0, start_voiced, 5, 3, hangover, longest)
    by_frame, by_block = Segmenter(settings_), Segmenter(settings_)
    for voiced, frames, at_once in blocks:
        ended = run(by_frame, [voiced] * frames)
        if at_once and by_block.advance(voiced, frames):
            assert ended == []
        else:
            assert run(by_block, [voiced] * frames) == ended
        assert vars(by_block) == vars(by_frame)


def test_the_webrtc_detector_detects_real_speech_and_not_silence() -> None:
    detector = DETECTORS["webrtcvad"](2)
    pcm = int16(clip_audio(clips()[0]))
    end = len(pcm) // FRAME * FRAME
    voiced = [detector.probability(frame) for frame in pcm[:end].reshape(-1, FRAME)]
    assert set(voiced) == {0.0, 1.0}
    assert np.mean(voiced) > 0.5
    silent = np.zeros(FRAME, np.int16)
    assert not any(DETECTORS["webrtcvad"](2).probability(silent) for _ in range(200))
