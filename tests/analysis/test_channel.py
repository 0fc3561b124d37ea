"""Analysis of one channel under all schedules of a slow backend: all speech is accounted for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.analysis.channel import ChannelPipeline
from stream.analysis.timeline import RollingSettings, softmax, speech_mask
from stream.analysis.vad import DETECTORS, VadSettings
from stream.analysis.windows import WindowSettings
from stream.types import (
    FRAME,
    SAMPLE_RATE,
    Event,
    FrameScores,
    Gap,
    GapReason,
    Logits,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    Window,
)
from tests.support.signals import (
    LoudDetector,
    ToneBackend,
    filtered,
    frame_count,
    frames_of,
    loudness,
    model,
    noise,
    silence,
)

E = TypeVar("E", bound=Event)

S = SAMPLE_RATE
SHORT = WindowSettings((S // 2, S, 3 * S // 2), hop=S // 4)
"""Small windows, so that Hypothesis finds overload within seconds of audio."""
VAD = VadSettings("loud", hangover=10, pre_roll=5, max_utterance=200, only_speech=False)


@pytest.fixture(autouse=True, scope="module")
def loud_detector() -> Iterator[None]:
    DETECTORS["loud"] = LoudDetector
    yield
    del DETECTORS["loud"]


def channel(
    vad: VadSettings = VAD,
    windows: WindowSettings = SHORT,
    frames: bool = False,
    embeddings: bool = False,
) -> ChannelPipeline:
    info = model(lengths=windows.lengths)
    return ChannelPipeline(0, S, info, vad, windows, RollingSettings((2, 5)), frames, embeddings)


@dataclass
class Slot:
    """Slot of one channel in a scheduler without threads: at most one window waits and one is in
    flight; a newer window replaces the waiting one. Records the outcome of every window."""

    pipeline: ChannelPipeline
    waiting: Window | None = None
    in_flight: Window | None = None
    events: list[Event] = field(default_factory=list)
    cut: list[Window] = field(default_factory=list)
    taken: list[Window] = field(default_factory=list)
    scored: list[tuple[Window, Logits]] = field(default_factory=list)
    holes: list[int] = field(default_factory=lambda: [0])
    real_from: dict[int, int] = field(default_factory=dict)
    scored_before: list[tuple[Gap, list[Window]]] = field(default_factory=list)
    backend: ToneBackend = field(default_factory=ToneBackend)

    def run(self, items: Iterator[Window | Event], prompt: bool = False) -> None:
        for item in items:
            if isinstance(item, Window):
                self._offer(item)
                if prompt:
                    self.settle()
                    self.take()
                    self.settle()
            else:
                self.record([item])

    def _offer(self, window: Window) -> None:
        self.cut.append(window)
        self.real_from[id(window)] = self.holes[-1]
        old, self.waiting = self.waiting, window
        if old is not None:
            self.record(self.pipeline.superseded(old, window))

    def take(self) -> None:
        if self.waiting is not None and self.in_flight is None:
            self.in_flight, self.waiting = self.waiting, None
            self.taken.append(self.in_flight)
            self.pipeline.taken(self.in_flight)

    def settle(self, fault: GapReason | None = None) -> None:
        window, self.in_flight = self.in_flight, None
        if window is None:
            return
        if fault is not None:
            self.record(self.pipeline.failed(window, fault))
            return
        logits = self.backend.score(window)
        self.scored.append((window, logits.logits))
        self.record(self.pipeline.scored(logits))

    def finish(self) -> None:
        self.run(self.pipeline.flush())
        while self.waiting or self.in_flight:
            self.take()
            self.settle()

    def record(self, events: Sequence[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Gap):
                self.scored_before.append((event, [w for w, _ in self.scored]))

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def covered(self, windows: Sequence[Window], count: int) -> NDArray[np.bool_]:
        """Return the frames that these windows cover with real audio; mirrored audio does not."""
        spans = [(max(w.start, self.real_from[id(w)]), w.end) for w in windows]
        return frames_of(spans, count)


def check_accounting(slot: Slot) -> None:
    """Check that every frame of speech is either scored or reported lost, and not twice."""
    count = slot.pipeline.position // FRAME + 1
    utterances = [(e.start, e.at) for e in slot.of(SpeechEnd)]
    speech = frames_of(utterances, count)
    assert speech.sum() * FRAME == sum(b - a for a, b in utterances), "utterances overlap"

    reported = np.zeros(count, int)
    for gap in slot.of(Gap):
        lost = frames_of([(gap.start, gap.end)], count) & speech
        assert lost.sum() * FRAME == gap.speech, "a gap miscounts its speech"
        assert lost[gap.start // FRAME]
        assert lost[gap.end // FRAME - 1]
        reported += lost
    assert reported.max() <= 1, "speech was reported lost twice"
    lost = reported.astype(bool)
    assert lost.sum() * FRAME == slot.pipeline.lost

    covered = slot.covered([w for w, _ in slot.scored], count)
    missing = np.flatnonzero(speech & ~covered & ~lost)
    assert not missing.size, f"frames {missing.tolist()} were neither scored nor reported lost"

    taken = slot.covered(slot.taken, count)
    for gap, before in slot.scored_before:
        span = frames_of([(gap.start, gap.end)], count) & speech
        excluded = taken if gap.reason == "overload" else slot.covered(before, count)
        both = np.flatnonzero(span & excluded)
        assert not both.size, f"a gap ({gap.reason}) has covered frames {both.tolist()}"

    ended = slot.of(SpeechEnd)
    segments = slot.of(Segment)
    assert [s.utterance for s in segments] == list(range(len(ended)))
    assert [(s.start, s.end, s.trigger) for s in segments] == [
        (e.start, e.at, e.trigger) for e in ended
    ]
    assert [e.utterance for e in slot.of(SpeechStart)] == list(range(len(ended)))
    assert len(slot.of(Score)) == len(slot.scored)


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


def speak(slot: Slot, text: str) -> None:
    """Run a script: `x` is 100 ms of speech, `.` 100 ms of silence; `t` takes the waiting window,
    `s` scores the one in flight, `f` fails it, `!` flushes."""
    for c in text.replace(" ", ""):
        match c:
            case "x" | ".":
                slot.run(slot.pipeline.feed(loudness([c == "x"] * 5)))
            case "t":
                slot.take()
            case "s":
                slot.settle()
            case "f":
                slot.settle("inference_failed")
            case "!":
                slot.run(slot.pipeline.flush())


STANDARD = WindowSettings()
CALM = VadSettings("loud", only_speech=False)


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
    assert slot.pipeline.summary() == {}
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
    for scores in (score.scores, *score.rolling.values(), segment.scores, slot.pipeline.summary()):
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
    assert slot.pipeline.summary() == segment.scores


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
    for score in scores:
        assert score.frames is not None
        assert score.frames.features is not None
        assert score.frames.features.shape == (len(score.frames.posteriors), 3)


def test_embeddings_are_computed_only_on_request() -> None:
    slot = Slot(channel(CALM, STANDARD, frames=True))
    speak(slot, "xxxxxxxts")
    slot.finish()
    assert [segment.embedding for segment in slot.of(Segment)] == [None]


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
