"""Pipeline of a stream: bytes in, windows and events out, identical for any chunking."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.vad import VadSettings
from stream.types import (
    FRAME,
    SAMPLE_RATE,
    AudioFormat,
    Event,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    Window,
)
from tests.support.signals import (
    ToneBackend,
    as_tuples,
    at_rate,
    chunks,
    clip_audio,
    clips,
    conversation,
    encode_mulaw,
    int16,
    linear16,
    model,
    noise,
    silence,
)

S = SAMPLE_RATE
MONO = AudioFormat("linear16", S, 1)
PHONE = AudioFormat("mulaw", 8_000, 2)
STUDIO = AudioFormat("f32le", 44_100, 1)
BACKEND = ToneBackend()

Item = tuple[object, ...]
"""Window or event as a tuple, as `as_tuples` returns it."""


def pipeline(
    audio: AudioFormat = MONO, analysed: Sequence[int] = (0,), frames: bool = False
) -> StreamPipeline:
    return StreamPipeline(audio, analysed, BACKEND.info, AnalysisSettings(frames=frames))


@functools.cache
def wire(audio: AudioFormat) -> bytes:
    """Return real speech, encoded as `audio`; with two channels both have speech."""
    if audio == MONO:
        return linear16(conversation(2))
    if audio == STUDIO:
        return at_rate(conversation(2), 44_100).astype("<f4").tobytes()
    left, right = conversation(2), conversation(3)[::-1][: len(conversation(2))]
    both = [encode_mulaw(int16(at_rate(side, 8_000))) for side in (left, right)]
    return np.stack(both, axis=1).tobytes()


def results(audio: AudioFormat, pieces: Iterable[bytes]) -> dict[int, list[Item]]:
    """Return windows and events of every channel as tuples; each window is scored at once."""
    line = pipeline(audio, range(audio.channels), frames=True)
    items: dict[int, list[Item]] = {c: [] for c in range(audio.channels)}

    def process(new_items: Iterator[Window | Event]) -> None:
        for item in new_items:
            items[item.channel].append(as_tuples(item))
            if isinstance(item, Window):
                line.taken(item)
                items[item.channel] += map(as_tuples, line.scored(BACKEND.score(item)))

    for piece in pieces:
        process(line.feed(piece))
    process(line.finish())
    return items


@functools.cache
def reference(audio: AudioFormat) -> dict[int, list[Item]]:
    return results(audio, chunks(wire(audio), [audio.bytes_per_second // 50]))


def test_the_reference_has_speech_in_every_channel() -> None:
    for audio in (MONO, PHONE, STUDIO):
        for items in reference(audio).values():
            kinds = [item[0] for item in items]
            assert kinds.count("Segment") >= 2
            assert kinds.count("Window") == kinds.count("Score") >= 3


@pytest.mark.parametrize("audio", [MONO, PHONE, STUDIO], ids=["mono", "phone", "studio"])
@given(
    sizes=st.lists(
        st.one_of(st.integers(1, 9), st.integers(10, 700), st.integers(700, 200_000)),
        min_size=1,
        max_size=6,
    ).filter(lambda sizes: sum(sizes) > 100 * len(sizes))
)
@example(sizes=[10**9])
@example(sizes=[1, 1, 1, 2999])
@settings(deadline=None, max_examples=12)
def test_any_chunking_gives_identical_windows_and_scores(
    audio: AudioFormat, sizes: list[int]
) -> None:
    assert results(audio, chunks(wire(audio), sizes)) == reference(audio)


def test_chunks_of_one_byte_give_identical_windows_and_scores() -> None:
    data = wire(MONO)[: 6 * S]
    assert results(MONO, chunks(data, [1])) == results(MONO, [data])


def test_events_of_both_channels_are_in_the_order_of_time() -> None:
    line = pipeline(PHONE, (0, 1))
    events = analyse(line, [wire(PHONE)], BACKEND.score)
    ends = [event.at for event in events if isinstance(event, SpeechEnd)]
    assert {event.channel for event in events} == {0, 1}
    assert all(later > earlier - S // 5 for earlier, later in pairwise(ends))


def test_a_channel_that_is_not_analysed_has_no_events() -> None:
    data = wire(PHONE)
    only = analyse(pipeline(PHONE, (1,)), [data], BACKEND.score)
    both = analyse(pipeline(PHONE, (0, 1)), [data], BACKEND.score)
    assert as_tuples(only) == as_tuples([event for event in both if event.channel == 1])
    assert pipeline(PHONE, (1,)).channels.keys() == {1}


def test_the_audio_of_one_channel_never_changes_the_results_of_the_other() -> None:
    left = int16(at_rate(conversation(2), 8_000))
    quiet = np.zeros_like(left)
    loud = int16(at_rate(noise(len(left) / 8_000, -6)[: 2 * len(left)], 8_000))[: len(left)]
    of_left = []
    for right in (quiet, loud):
        data = np.stack([encode_mulaw(left), encode_mulaw(right)], axis=1).tobytes()
        events = analyse(pipeline(PHONE, (0, 1)), [data], BACKEND.score)
        of_left.append([event for event in events if event.channel == 0])
    assert as_tuples(of_left[0]) == as_tuples(of_left[1])


@pytest.mark.parametrize("clip", clips()[:4], ids=lambda path: path.stem)
def test_a_recording_of_speech_is_detected_and_scored(clip: Path) -> None:
    audio = np.concatenate([silence(1), clip_audio(clip), silence(1.5)])
    line = pipeline()
    events = analyse(line, [*chunks(linear16(audio), [640])], BACKEND.score)
    segments = [event for event in events if isinstance(event, Segment)]
    starts = [event for event in events if isinstance(event, SpeechStart)]
    assert len(starts) == len(segments) >= 1
    assert 0.5 * S < segments[0].start < 1.4 * S
    assert (
        S + len(clip_audio(clip)) - S // 2 < segments[-1].end <= S + len(clip_audio(clip)) + S // 4
    )
    assert all(segment.covered > 0.9 for segment in segments)
    assert sum(segments[0].scores.values()) == pytest.approx(1, abs=0.001)
    assert line.lost == 0


def test_a_higher_temperature_flattens_every_score() -> None:
    tops = []
    for temperature in (1.0, 4.0):
        info = model(temperature=temperature)
        line = StreamPipeline(MONO, (0,), info, AnalysisSettings())
        events = analyse(line, [wire(MONO)], BACKEND.score)
        segment = next(event for event in events if isinstance(event, Segment))
        tops.append(max(segment.scores.values()))
    assert tops[0] > tops[1] > 1 / 9


# -- time --------------------------------------------------------------------------------------


def exact_position(received: int, rate: int) -> int:
    return received * S // rate


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_positions_do_not_drift_over_an_hour_with_holes(rate: int) -> None:
    """Rounding once per hole would add up: the ratio of 11 025 Hz to 16 kHz is not an integer."""
    line = pipeline(AudioFormat("linear16", rate, 1))
    rng = np.random.default_rng(rate)
    second, received = bytes(2 * rate), 0
    for _ in range(60):
        for _ in range(3):
            list(line.feed(second))
            received += rate
        odd = int(rng.integers(1, rate))
        list(line.feed(bytes(2 * odd)))
        skipped = 56 * rate + int(rng.integers(0, 2 * rate))
        list(line.skip(skipped))
        received += odd + skipped
        assert line.received == received
        assert line.position == line.channels[0].position == exact_position(received, rate)
    assert received > 3500 * rate
    list(line.finish())
    assert abs(line.channels[0].position - exact_position(received, rate)) <= 1


@pytest.mark.usefixtures("loud_detector")
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_speech_after_many_holes_has_its_true_position(rate: int) -> None:
    analysis = AnalysisSettings(vad=VadSettings("loud", only_speech=False))
    line = StreamPipeline(AudioFormat("linear16", rate, 1), (0,), BACKEND.info, analysis)
    for n in range(50):
        list(line.feed(bytes(2 * (100 + 37 * n))))
        list(line.skip(5 * rate + 11 * n))
    before = line.position
    audio = np.repeat([0.0, 1.0, 0.0], [S, S, S]).astype(np.float32) * noise(3, -10)
    events = [*line.feed(linear16(at_rate(audio, rate))), *line.finish()]
    (end,) = [event for event in events if isinstance(event, SpeechEnd)]
    pre_roll = 15 * FRAME
    assert end.start - before == pytest.approx(S - pre_roll, abs=FRAME)
    assert end.at - before == pytest.approx(2 * S, abs=FRAME)


@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 47_999, 48_000]),
    parts=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8),
)
@example(rate=44_100, parts=[(2, 1)])
@settings(deadline=None, max_examples=80)
def test_positions_are_exact_after_holes_of_any_length(
    rate: int, parts: list[tuple[int, int]]
) -> None:
    """A chunk with a single NaN sample at 44.1 kHz once made the pipeline skip -1 samples: the
    drained resampler had rounded up, while the position rounds down."""
    line = pipeline(AudioFormat("linear16", rate, 1))
    received = 0
    for fed, skipped in parts:
        list(line.feed(bytes(2 * fed)))
        list(line.skip(skipped))
        received += fed + skipped
        assert line.position == exact_position(received, rate)
        assert abs(line.channels[0].position - line.position) <= 1


def test_position_counts_whole_samples_only() -> None:
    line = pipeline(AudioFormat("linear16", 8_000, 2), (0, 1))
    list(line.feed(bytes(4 * 80 + 3)))
    assert (line.received, line.position) == (80, 160)
    list(line.feed(bytes(1)))
    assert (line.received, line.position) == (81, 162)


# -- invalid audio -----------------------------------------------------------------------------


def test_one_nan_costs_one_sample_and_not_the_utterance() -> None:
    """The utterance was cut at every NaN, and lost the chunk around it."""
    speech = conversation(2).astype("<f4")
    with_nan = speech.copy()
    with_nan[:: S // 4] = np.nan
    found = []
    for samples in (speech, with_nan):
        line = pipeline(AudioFormat("f32le", S, 1))
        events = analyse(line, [samples.tobytes()], BACKEND.score)
        scores = [event for event in events if isinstance(event, Score)]
        assert all(np.isfinite(list(score.scores.values())).all() for score in scores)
        found.append([(e.start, e.at) for e in events if isinstance(e, SpeechEnd)])
    plain, spoilt = found
    assert len(plain) >= 2
    assert len(spoilt) == len(plain)
    assert np.abs(np.array(spoilt) - np.array(plain)).max() <= 5 * FRAME


def test_nothing_but_nan_is_no_speech() -> None:
    """It is silence, and it does not affect the audio after it."""
    nan = np.full(S, np.nan, "<f4").tobytes()
    line = pipeline(AudioFormat("f32le", S, 1))
    events = analyse(line, [nan], BACKEND.score)
    assert events == []
    assert line.position == S
    assert line.invalid == S


def test_after_realign_a_chunk_starts_at_a_sample_boundary() -> None:
    line = pipeline()
    list(line.feed(b"\x01"))
    line.realign()
    list(line.feed(bytes(640)))
    assert line.received == 320


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [MONO, PHONE, STUDIO], ids=["mono", "phone", "studio"])
def test_finish_flushes_an_utterance_cut_off_by_the_end_of_the_stream(audio: AudioFormat) -> None:
    data = wire(audio)
    cut = (len(data) // 4) // audio.bytes_per_frame * audio.bytes_per_frame
    line = pipeline(audio)
    events = analyse(line, [data[:cut]], BACKEND.score)
    assert line.channels[0].position == pytest.approx(line.position, abs=1)
    segments = [event for event in events if isinstance(event, Segment)]
    assert segments
    assert segments[-1].trigger == "flush"
    assert line.position - segments[-1].end < S // 10
    assert not line.channels[0].speaking


def test_flush_ends_the_utterance_and_cuts_its_last_window() -> None:
    line = pipeline()
    list(line.feed(linear16(clip_audio(clips()[0])[: S // 2])))
    kinds = [type(item) for item in line.flush()]
    assert kinds == [SpeechEnd, Window]
    assert list(line.flush()) == []


@pytest.mark.parametrize("audio", [MONO, PHONE, STUDIO], ids=["mono", "phone", "studio"])
@pytest.mark.parametrize("extra_ms", [0, 3, 19])
def test_a_flush_includes_chunks_of_a_few_milliseconds(audio: AudioFormat, extra_ms: int) -> None:
    """Short chunks are gathered before they are analysed, and a flush must not leave them out."""
    frames = audio.sample_rate * (1600 + extra_ms) // 1000
    data = wire(audio)[: frames * audio.bytes_per_frame]
    found = []
    for size in (len(data), audio.sample_rate // 200 * audio.bytes_per_frame):
        line = pipeline(audio, range(audio.channels))
        items = [item for chunk in chunks(data, [size]) for item in line.feed(chunk)]
        items += [*line.flush(), *line.skip(audio.sample_rate // 10)]
        found.append([as_tuples(item) for item in sorted(items, key=lambda item: item.channel)])
    assert found[0] == found[1]
    assert found[0]


def test_a_stream_without_audio_has_no_events() -> None:
    line = pipeline(STUDIO)
    assert analyse(line, [], BACKEND.score) == []
    assert analyse(line, [b""], BACKEND.score) == []
    assert (line.position, line.lost) == (0, 0)
    assert line.channels[0].scores.summary() == {}


def test_windows_and_gaps_of_one_channel_do_not_affect_the_other() -> None:
    line = pipeline(PHONE, (0, 1))
    windows = [item for item in line.feed(wire(PHONE)) if isinstance(item, Window)]
    second = next(window for window in windows if window.channel == 1)
    line.taken(second)
    gaps = line.failed(second, "inference_timeout")
    assert {event.channel for event in gaps} == {1}
    assert line.channels[1].lost == line.lost > 0
    assert line.channels[0].lost == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_gathering_until_something_is_due_delays_neither_windows_nor_ends(rate: int) -> None:
    """Calls for every message of 20 ms cost a third more, and messages gathered blindly came late.

    Compared is the position at which each event is known, with messages processed one by one.
    """
    audio = AudioFormat("linear16", rate)
    data, size = linear16(at_rate(conversation(6), rate)), rate // 50 * 2

    def known(gathers: bool) -> tuple[list[tuple[str, int]], int]:
        line = pipeline(audio)
        found, gathered, calls = list[tuple[str, int]](), b"", 0
        for at in range(0, len(data), size):
            gathered += data[at : at + size]
            if gathers and len(gathered) < line.due_in * audio.bytes_per_frame:
                continue
            calls += 1
            for item in line.feed(gathered):
                if isinstance(item, Window):
                    line.taken(item)
                    line.failed(item, "overload")
                if not isinstance(item, SpeechStart):
                    found.append((type(item).__name__, line.position))
            gathered = b""
        return found, calls

    one_by_one, many = known(gathers=False)
    found, few = known(gathers=True)
    assert few < many / 5
    assert [name for name, _ in found] == [name for name, _ in one_by_one]
    late = [at - before for (_, at), (_, before) in zip(found, one_by_one, strict=True)]
    assert max(late) <= 0.13 * SAMPLE_RATE
    assert sorted(late)[len(late) // 2] <= 0.02 * SAMPLE_RATE
