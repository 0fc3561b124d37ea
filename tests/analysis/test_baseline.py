"""Running baseline of a voice: strength, order, unknown sounds, recordings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.analysis.baseline import (
    MAX_UTTERANCES,
    MIN_UTTERANCES,
    Baseline,
    BaselineSettings,
    adapted,
)
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.timeline import softmax
from stream.types import AudioFormat, FrameScores, Logits, ModelInfo, Score, Segment, Window
from tests.support.signals import conversation, linear16

LABELS = ("angry", "happy", "neutral", "sad", "unknown")
ANGRY = np.array([3, 0, 0, 0, -2], np.float32)
SAD = np.array([0, 0, 1, 3, -2], np.float32)
UNKNOWN = np.array([0, 0, 0, 0, 5], np.float32)
EMOTIONS = np.array([True, True, True, True, False])
logits = st.lists(st.floats(-20, 20, width=32), min_size=5, max_size=5).map(
    lambda row: np.array(row, np.float32)
)


def scores(row: Logits) -> dict[str, float]:
    return dict(zip(LABELS, softmax(row).tolist(), strict=True))


def learned(*utterances: tuple[Logits, float], **settings: float) -> Baseline:
    baseline = Baseline(LABELS, (), BaselineSettings(**settings))
    for row, seconds in utterances:
        baseline.add(row, scores(row), seconds)
    return baseline


def test_a_voice_that_always_sounds_sad_is_sad_no_more() -> None:
    """One voice of three sounded sad to the model whatever it said."""
    baseline = learned(*[(SAD, 3.0)] * 20)
    moved = scores(adapted(SAD, baseline.shift, EMOTIONS))
    assert scores(SAD)["sad"] > 0.8
    assert moved["sad"] < 0.5
    angry = scores(adapted(ANGRY, baseline.shift, EMOTIONS))
    assert angry["angry"] > scores(ANGRY)["angry"], "what is unusual for the voice stands out"


def test_a_voice_that_is_always_calm_stays_calm() -> None:
    """Most people are calm most of the time; a call without any emotion must not get one."""
    calm = np.array([0, 0, 2, 0, -2], np.float32)
    baseline = learned(*[(calm, 3.0)] * 50)
    moved = scores(adapted(calm, baseline.shift, EMOTIONS))
    assert max(moved, key=moved.__getitem__) == "neutral"
    assert moved["neutral"] > 0.5


def test_the_weight_grows_with_speech_up_to_its_maximum() -> None:
    weights = [learned((SAD, seconds)).weight for seconds in (0.0, 1.0, 20.0, 1000.0)]
    assert weights == [0.0, pytest.approx(1 / 21), 0.5, 0.7]


def test_the_state_has_hundredths_of_seconds_and_remembers_a_bounded_number_of_utterances() -> None:
    baseline = learned(*[(ANGRY, 0.01)] * (MAX_UTTERANCES + 23))
    assert baseline.state.speech_s == (MAX_UTTERANCES + 23) / 100
    assert len(baseline._activations) == MAX_UTTERANCES


def test_a_voice_like_the_reference_is_not_changed() -> None:
    baseline = Baseline(LABELS, tuple(SAD.tolist()), BaselineSettings())
    for _ in range(10):
        baseline.add(SAD + 7, scores(SAD), 3.0)
    assert np.abs(baseline.shift).max() < 1e-5, "a constant in all logits means nothing"


def test_unknown_sounds_teach_nothing_and_keep_their_share() -> None:
    """A barking dog would otherwise become part of the voice."""
    baseline = learned((UNKNOWN, 30.0))
    assert baseline.speech_s == 0
    assert not baseline.shift.any()
    baseline = learned((SAD, 60.0))
    for row in (SAD, ANGRY, UNKNOWN):
        moved = scores(adapted(row, baseline.shift, EMOTIONS))
        assert moved["unknown"] == pytest.approx(scores(row)["unknown"], abs=1e-6)


@given(st.lists(st.tuples(logits, st.floats(0.1, 30)), max_size=20), logits)
def test_the_shift_is_bounded_and_the_scores_are_shares(
    utterances: list[tuple[Logits, float]], row: Logits
) -> None:
    baseline = learned(*utterances)
    assert np.isfinite(baseline.shift).all()
    assert np.abs(baseline.shift).max() <= 0.7 * 40
    assert 0 <= baseline.weight <= 0.7
    assert sum(scores(adapted(row, baseline.shift, EMOTIONS)).values()) == pytest.approx(
        1, abs=1e-4
    )


def test_a_lasting_change_is_followed_slowly() -> None:
    """Ten minutes after a caller grew angry, the anger is half of the baseline, not all at once."""
    baseline = learned(*[(SAD, 3.0)] * 100, memory_s=300)
    before = baseline.shift[0]
    for _ in range(10):
        baseline.add(ANGRY, scores(ANGRY), 3.0)
    soon = baseline.shift[0]
    for _ in range(200):
        baseline.add(ANGRY, scores(ANGRY), 3.0)
    assert before < soon < baseline.shift[0]
    assert soon - before < 0.2 * (baseline.shift[0] - before)


def test_the_change_of_activation_needs_earlier_utterances() -> None:
    baseline = learned(*[(SAD, 2.0)] * (MIN_UTTERANCES - 1))
    assert baseline.state.activation is None
    baseline.add(ANGRY, scores(ANGRY), 2.0)
    state = baseline.state
    assert state.activation is not None
    assert state.activation < 0.2, "the median of two calm utterances and an excited one"


# -- in the pipeline -----------------------------------------------------------------------------

MODEL = ModelInfo("m", "1", LABELS, 320, (16_000, 32_000), (1,), 1.0, "CC0-1.0", "cpu")


def events(settings: AnalysisSettings, chunk: int) -> Iterator[Score | Segment]:
    """Analyse eight utterances of a voice that the model finds sad."""
    data = linear16(conversation(8))

    def infer(window: Window) -> FrameScores:
        frames = window.length // 320
        return FrameScores(window, np.tile(SAD, (frames, 1)))

    pipeline = StreamPipeline(AudioFormat(), [0], MODEL, settings)
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    for event in analyse(pipeline, chunks, infer):
        if isinstance(event, Score | Segment):
            yield event


def test_events_carry_the_scores_of_the_model_and_the_moved_ones() -> None:
    with_baseline = list(events(AnalysisSettings(baseline=BaselineSettings()), 3200))
    plain = list(events(AnalysisSettings(), 3200))
    assert len(with_baseline) == len(plain) > 10
    for event, other in zip(with_baseline, plain, strict=True):
        assert event.baseline is not None
        assert other.baseline is None
        assert event.baseline.scores == other.scores
    first, last = with_baseline[0], with_baseline[-1]
    assert first.scores == plain[0].scores, "nothing was heard before"
    assert last.scores["sad"] < plain[-1].scores["sad"] - 0.2
    assert last.rolling["call"]["sad"] > last.scores["sad"], "the call includes its beginning"


def test_an_utterance_is_compared_with_earlier_ones_only() -> None:
    """Otherwise the first angry sentence would hide itself."""
    segments = [
        event
        for event in events(AnalysisSettings(baseline=BaselineSettings()), 3200)
        if isinstance(event, Segment)
    ]
    rests_on = [segment.baseline.speech_s for segment in segments if segment.baseline]
    assert rests_on[0] == 0
    assert rests_on == sorted(rests_on)
    for earlier, later in pairwise(segments):
        assert later.scores["sad"] < earlier.scores["sad"]


def test_chunks_of_any_size_give_the_same_scores() -> None:
    settings = AnalysisSettings(baseline=BaselineSettings())
    one, other = (list(events(settings, chunk)) for chunk in (640, 48_000))
    assert [event.scores for event in one] == [event.scores for event in other]
