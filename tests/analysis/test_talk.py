"""Spans of talk from frame decisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.analysis.activity import ActivityChannel
from stream.analysis.talk import BRIDGED, LEAST_VOICED, Activity, TalkDetector
from stream.analysis.vad import VadSettings
from stream.types import FRAME
from tests.support.signals import conversation

SILENT, TALKING, UNHEARD = Activity.SILENT, Activity.TALKING, Activity.UNHEARD


def changes(*runs: tuple[bool, int]) -> list[tuple[int, Activity]]:
    """Return the changes, in frames, after runs of equal decisions and the end of the stream."""
    detector = TalkDetector()
    for voiced, frames in runs:
        detector.push([voiced] * frames)
    detector.close()
    return [(at // FRAME, activity) for at, activity in detector.changes]


def test_talk_is_from_the_first_voiced_frame_to_the_last() -> None:
    assert changes((False, 7), (True, 20), (False, 40)) == [(7, TALKING), (27, SILENT)]


def test_a_pause_shorter_than_200_ms_belongs_to_the_talk() -> None:
    short, long = BRIDGED - 1, BRIDGED
    assert changes((True, 20), (False, short), (True, 20)) == [(0, TALKING), (40 + short, SILENT)]
    assert changes((True, 20), (False, long), (True, 20)) == [
        (0, TALKING),
        (20, SILENT),
        (20 + long, TALKING),
        (40 + long, SILENT),
    ]


def test_a_click_is_not_talk() -> None:
    assert changes((True, LEAST_VOICED - 1), (False, 30)) == []
    assert changes((True, LEAST_VOICED), (False, 30)) == [(0, TALKING), (LEAST_VOICED, SILENT)]


def test_a_hole_ends_the_talk_and_is_neither_talk_nor_silence() -> None:
    detector = TalkDetector()
    detector.push([True] * 20)
    detector.jump(100 * FRAME)
    assert [(at // FRAME, activity) for at, activity in detector.changes] == [
        (0, TALKING),
        (20, SILENT),
        (20, UNHEARD),
        (100, SILENT),
    ]
    assert detector.settled == detector.position == 100 * FRAME


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 20))
def test_any_grouping_gives_the_same_and_what_is_settled_never_changes(
    decisions: list[bool], size: int
) -> None:
    single, grouped = TalkDetector(), TalkDetector()
    for decision in decisions:
        single.push([decision])
    for start in range(0, len(decisions), size):
        settled = grouped.settled
        known = len(grouped.changes)
        grouped.push(decisions[start : start + size])
        assert grouped.settled >= settled
        assert all(at >= settled for at, _ in list(grouped.changes)[known:])
    assert (grouped.position, grouped.settled) == (single.position, single.settled)
    assert grouped.changes == single.changes


@pytest.mark.parametrize("size", [37, 160, 320, 5_000])
def test_any_chunks_of_audio_give_the_same_talk(size: int) -> None:
    audio = conversation(2)
    whole, parts = ActivityChannel(VadSettings()), ActivityChannel(VadSettings())
    whole.feed(audio.copy())
    for start in range(0, len(audio), size):
        parts.feed(audio[start : start + size].copy())
    assert whole.talk.changes
    assert parts.talk.changes == whole.talk.changes
    assert parts.position == whole.position == len(audio)


def test_a_hole_of_any_length_keeps_the_position() -> None:
    channel, position = ActivityChannel(VadSettings()), 0
    for samples in (1, 319, 320, 321, 16_000, 77):
        channel.feed(np.zeros(100, np.float32))
        channel.skip(samples)
        position += 100 + samples
        assert channel.position == position


def test_what_is_settled_ends_before_a_pause_that_may_belong_to_the_talk() -> None:
    detector = TalkDetector()
    detector.push([False] * 3)
    assert detector.settled == 3 * FRAME
    detector.push([True] * (LEAST_VOICED - 1))
    assert detector.settled == 3 * FRAME, "it may be a click"
    detector.push([True] * 10)
    assert detector.settled == detector.position
    detector.push([False] * 4)
    assert detector.settled == detector.position - 4 * FRAME
    detector.jump(detector.position)
    assert [activity for _, activity in detector.changes] == [TALKING, SILENT], "not a hole"
