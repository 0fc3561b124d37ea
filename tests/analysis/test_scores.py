"""Scores of one channel: exact means over speech frames, whatever windows cover them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.analysis.timeline import softmax, speech_mask
from stream.types import (
    FRAME,
    FrameScores,
    Score,
    Segment,
)
from tests.support.one_channel import (
    CALM,
    STANDARD,
    S,
    Slot,
    channel,
    speak,
)
from tests.support.signals import (
    ToneBackend,
    frame_count,
)

pytestmark = pytest.mark.usefixtures("loud_detector")


def test_mirrored_audio_before_the_stream_is_never_counted() -> None:
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "xxxxx ! t")
    (window,) = slot.taken
    assert window.start == -S // 2
    count = frame_count(S)
    logits = np.full((count, 9), -50.0, np.float32)
    logits[:25, 0] = 50.0  # logits of the mirrored audio
    logits[25:, 1] = 50.0
    (score, segment) = slot.pipeline.scored(FrameScores(window, logits))
    assert isinstance(score, Score)
    assert isinstance(segment, Segment)
    for scores in (
        score.scores,
        *score.rolling.values(),
        segment.scores,
        slot.pipeline.scores.summary(),
    ):
        assert scores["disgusted"] == 1.0


def test_the_score_of_a_single_window_is_that_of_its_utterance() -> None:
    """Scores are exact: the mean of frame logits, then softmax, wherever they are computed."""
    slot = Slot(channel(CALM, STANDARD))
    speak(slot, "...... xxxxxx .......")
    (window,) = slot.cut
    slot.take()
    slot.settle()
    ((_, logits),) = slot.scored
    (start, end) = window.speech[0]
    middle = window.start + np.arange(len(logits)) * FRAME + FRAME // 2
    inside = (middle >= start) & (middle < end)
    expected = softmax(logits[inside].mean(axis=0))
    (score,), (segment,) = slot.of(Score), slot.of(Segment)
    assert list(score.scores.values()) == pytest.approx(expected, abs=1e-4)
    assert score.scores == segment.scores
    assert score.scores == score.rolling["2s"] == score.rolling["call"] == segment.rolling["call"]
    assert slot.pipeline.scores.summary() == segment.scores
    assert "one_voice" not in score.hints + segment.hints


def test_the_score_of_an_utterance_is_the_mean_over_all_windows_that_cover_it() -> None:
    slot = Slot(channel(CALM, STANDARD))
    for c in ".." + "x" * 52 + ".......":
        speak(slot, c + "ts")
    cells: dict[int, list[np.ndarray]] = {}
    for window, logits in slot.scored:
        for n, row in enumerate(logits):
            cells.setdefault(window.start // FRAME + n, []).append(row)
    (segment,) = slot.of(Segment)
    own = range(segment.start // FRAME, segment.end // FRAME)
    means = [np.mean(cells[c], axis=0) for c in own if c in cells]
    assert len(slot.scored) >= 5
    assert len(means) >= len(own) - 1
    expected = softmax(np.mean(means, axis=0).astype(np.float32))
    assert list(segment.scores.values()) == pytest.approx(expected, abs=2e-4)


def test_frames_of_consecutive_scores_are_contiguous() -> None:
    """With `frames` a client draws one curve, which a missing frame interrupts. A window of n frame
    hops has n − 1 frames, so the last 20 ms of each window were once in no score at all."""
    slot = Slot(channel(CALM, STANDARD, frames=True))
    for c in "x" * 60:
        speak(slot, c + "ts")
    frames = [score.frames for score in slot.of(Score) if score.frames is not None]
    assert len(frames) == len(slot.of(Score)) >= 5
    for before, after in pairwise(frames):
        assert after.start == before.start + len(before.posteriors) * before.hop
        assert after.posteriors.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_frames_cover_only_speech() -> None:
    """A window reaches back into the pause before a short utterance, or beyond it. Its frames there
    were once written to frames.csv and drawn as speech, up to 0.8 s before the speech began."""
    slot = Slot(channel(CALM, STANDARD, frames=True, embeddings=True))
    for c in "......" + "xxxxxx.........." + "xxx......." * 2 + "x" * 34 + "..........":
        speak(slot, c + "ts")
    utterances = slot.of(Segment)
    assert len(utterances) == 4
    positions = []
    for frames in (score.frames for score in slot.of(Score)):
        assert frames is not None
        assert frames.features is not None
        assert len(frames.posteriors) == len(frames.features)
        positions += [frames.start + n * frames.hop for n in range(len(frames.posteriors))]
    # The last 20 ms of a window have no frame; within an utterance the next window has it.
    ends = [(each.start, each.end - FRAME) for each in utterances]
    assert positions == [at for start, end in ends for at in range(start, end, FRAME)]


def test_an_embedding_is_the_mean_over_the_speech_frames_of_the_utterance() -> None:
    """It is the mean over the scored cells, each averaged over the windows that cover it. Users of
    emotion2vec get the same for a whole recording, but with the pauses."""
    slot = Slot(channel(CALM, STANDARD, frames=True, embeddings=True))
    speak(slot, "xxxxxxxxxxxts" * 4 + "." * 10 + "xxxxxxxts")
    slot.finish()
    segments, scores = slot.of(Segment), slot.of(Score)
    assert segments
    for segment in segments:
        cells: dict[int, list[NDArray[np.float32]]] = {}
        for window, _ in slot.scored:
            features = ToneBackend().score(window).features
            assert features is not None
            mask = speech_mask(window, len(features), FRAME)
            starts = window.start + np.flatnonzero(mask) * FRAME
            for at, row in zip(starts, features[mask], strict=True):
                cells.setdefault(int(at), []).append(row)
        inside = [
            np.mean(rows, 0) for at, rows in cells.items() if segment.start <= at < segment.end
        ]
        assert segment.embedding == pytest.approx(np.mean(inside, axis=0), abs=1e-4)
    every = [np.mean(rows, 0) for rows in cells.values()]
    whole, count = slot.pipeline.scores.embedding()
    assert count >= len(every) > 0
    assert whole.shape == (3,)
    for score in scores:
        assert score.frames is not None
        assert score.frames.features is not None
        assert score.frames.features.shape == (len(score.frames.posteriors), 3)


def test_embeddings_are_computed_only_on_request() -> None:
    slot = Slot(channel(CALM, STANDARD, frames=True))
    speak(slot, "xxxxxxxts")
    slot.finish()
    assert [segment.embedding for segment in slot.of(Segment)] == [None]
    assert slot.pipeline.scores.embedding()[1] == 0
