"""One voice on both channels of a stream: it is analysed once, and hinted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.types import (
    SAMPLE_RATE,
    AudioFormat,
    Event,
    Samples,
    Score,
    Segment,
)
from tests.support.signals import (
    ToneBackend,
    as_tuples,
    chunks,
    conversation,
    int16,
    noise,
)

S = SAMPLE_RATE
STEREO = AudioFormat("linear16", S, 2)
BACKEND = ToneBackend()


def stereo(left: Samples, right: Samples) -> bytes:
    return np.stack([int16(left), int16(right)], axis=1).astype("<i2").tobytes()


def live(analysed: Sequence[int]) -> StreamPipeline:
    return StreamPipeline(STEREO, analysed, BACKEND.info, AnalysisSettings())


def scored_channels(events: Sequence[Event], since: int = 0) -> set[int]:
    return {e.channel for e in events if isinstance(e, Score) and e.end > since}


def test_one_voice_on_both_channels_of_a_live_stream_is_analysed_once() -> None:
    """A browser sent its one microphone as stereo. It was shown as a call of two people who always
    spoke at the same time, and cost twice."""
    voice = conversation(6, 0.5)
    line = live((0, 1))
    data = stereo(voice, voice + noise(len(voice) / S, -60, 7)[: len(voice)])
    events = analyse(line, list(chunks(data, (6400,))), BACKEND.score)
    assert scored_channels(events, since=8 * S) == {0}
    late = [e for e in events if isinstance(e, Segment) and e.end > 8 * S]
    assert late
    assert all("one_voice" in segment.hints for segment in late)
    early = [e for e in events if isinstance(e, Segment) and e.end < 3 * S]
    assert early
    assert all("one_voice" not in segment.hints for segment in early)


def test_the_same_voice_on_a_channel_that_is_not_analysed_is_hinted() -> None:
    voice = conversation(6, 0.5)
    line = live((1,))
    events = analyse(line, list(chunks(stereo(voice, voice), (6400,))), BACKEND.score)
    segments = [event for event in events if isinstance(event, Segment)]
    assert scored_channels(events, since=8 * S) == {1}
    assert "one_voice" in segments[-1].hints


@pytest.mark.parametrize("crosstalk", [0.0, 0.1, 0.25])
def test_two_people_stay_two_channels_even_with_crosstalk(crosstalk: float) -> None:
    first, second = conversation(3, 0.5), np.roll(conversation(3, 0.5)[::-1], 2 * S)
    first, second = first + crosstalk * second, second + crosstalk * first
    line = live((0, 1))
    data = stereo(np.tile(first, 3), np.tile(second, 3))
    events = analyse(line, list(chunks(data, (6400,))), BACKEND.score)
    assert scored_channels(events, since=len(first)) == {0, 1}
    assert not [e for e in events if isinstance(e, Segment) and "one_voice" in e.hints]


def test_a_recording_is_not_compared_again() -> None:
    voice = conversation(6, 0.5)
    line = StreamPipeline(STEREO, (0, 1), BACKEND.info, AnalysisSettings(), source_rate=S)
    events = analyse(line, [stereo(voice, voice)], BACKEND.score)
    assert scored_channels(events, since=8 * S) == {0, 1}


@pytest.mark.parametrize("sizes", [(4,), (402, 6), (399_996,)])
def test_any_chunking_finds_the_same_voice_at_the_same_time(sizes: Sequence[int]) -> None:
    voice = conversation(5, 0.5)
    data = stereo(voice, np.roll(voice, 30))
    found = []
    for each in (sizes, (6400,)):
        line = live((0, 1))
        events = analyse(line, list(chunks(data, each)), BACKEND.score)
        found.append(sorted(as_tuples(event) for event in events if event.channel == 1))
    assert found[0] == found[1]
