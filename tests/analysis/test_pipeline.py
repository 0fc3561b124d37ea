"""Bytes in, windows and events out: the same for any way the bytes are cut."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.vad import DETECTORS, VadSettings
from stream.audio.codecs import InvalidAudio
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
    LoudDetector,
    ToneBackend,
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
    plain,
    silence,
)

S = SAMPLE_RATE
MONO = AudioFormat("linear16", S, 1)
PHONE = AudioFormat("mulaw", 8_000, 2)
STUDIO = AudioFormat("f32le", 44_100, 1)
BACKEND = ToneBackend()


def pipeline(
    audio: AudioFormat = MONO, analysed: Sequence[int] = (0,), frames: bool = False
) -> StreamPipeline:
    return StreamPipeline(audio, analysed, BACKEND.info, AnalysisSettings(frames=frames))


@functools.cache
def wire(audio: AudioFormat) -> bytes:
    """Two people talking, as `audio` says."""
    if audio == MONO:
        return linear16(conversation(2))
    if audio == STUDIO:
        return at_rate(conversation(2), 44_100).astype("<f4").tobytes()
    left, right = conversation(2), conversation(3)[::-1][: len(conversation(2))]
    both = [encode_mulaw(int16(at_rate(side, 8_000))) for side in (left, right)]
    return np.stack(both, axis=1).tobytes()


def told(audio: AudioFormat, pieces: Iterable[bytes]) -> dict[int, list[object]]:
    """Windows and events of every channel, as values, with a backend that is never late."""
    line = pipeline(audio, range(audio.channels), frames=True)
    got: dict[int, list[object]] = {c: [] for c in range(audio.channels)}

    def drive(items: Iterator[Window | Event]) -> None:
        for item in items:
            got[item.channel].append(plain(item))
            if isinstance(item, Window):
                line.taken(item)
                got[item.channel] += map(plain, line.scored(BACKEND.score(item)))

    for piece in pieces:
        drive(line.feed(piece))
    drive(line.finish())
    return got


@functools.cache
def reference(audio: AudioFormat) -> dict[int, list[object]]:
    return told(audio, chunks(wire(audio), [audio.bytes_per_second // 50]))


def test_the_reference_holds_speech_of_every_channel() -> None:
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
def test_any_cut_of_the_bytes_gives_identical_windows_and_scores(audio, sizes) -> None:
    assert told(audio, chunks(wire(audio), sizes)) == reference(audio)


def test_even_one_byte_at_a_time() -> None:
    data = wire(MONO)[: 6 * S]
    assert told(MONO, chunks(data, [1])) == told(MONO, [data])


def test_events_come_in_the_order_of_time_though_the_channels_take_turns() -> None:
    line = pipeline(PHONE, (0, 1))
    events = analyse(line, [wire(PHONE)], BACKEND.score)
    ends = [event.at for event in events if isinstance(event, SpeechEnd)]
    assert {event.channel for event in events} == {0, 1}
    assert all(later > earlier - S // 5 for earlier, later in pairwise(ends))


def test_a_channel_that_is_not_analysed_is_never_decided_on() -> None:
    data = wire(PHONE)
    only = analyse(pipeline(PHONE, (1,)), [data], BACKEND.score)
    both = analyse(pipeline(PHONE, (0, 1)), [data], BACKEND.score)
    assert plain(only) == plain([event for event in both if event.channel == 1])
    assert pipeline(PHONE, (1,)).channels.keys() == {1}


def test_what_one_channel_says_never_changes_the_other() -> None:
    left = int16(at_rate(conversation(2), 8_000))
    quiet = np.zeros_like(left)
    loud = int16(at_rate(noise(len(left) / 8_000, -6)[: 2 * len(left)], 8_000))[: len(left)]
    results = []
    for right in (quiet, loud):
        data = np.stack([encode_mulaw(left), encode_mulaw(right)], axis=1).tobytes()
        events = analyse(pipeline(PHONE, (0, 1)), [data], BACKEND.score)
        results.append([event for event in events if event.channel == 0])
    assert plain(results[0]) == plain(results[1])


@pytest.mark.parametrize("clip", clips()[:4], ids=lambda path: path.stem)
def test_a_recording_is_found_as_speech_and_scored(clip) -> None:
    audio = np.concatenate([silence(1), clip_audio(clip), silence(1.5)])
    line = pipeline()
    events = analyse(line, chunks(linear16(audio), [640]), BACKEND.score)
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


def test_the_temperature_of_the_model_flattens_every_score() -> None:
    tops = []
    for temperature in (1.0, 4.0):
        info = model(temperature=temperature)
        line = StreamPipeline(MONO, (0,), info, AnalysisSettings())
        events = analyse(line, [wire(MONO)], BACKEND.score)
        segment = next(event for event in events if isinstance(event, Segment))
        tops.append(max(segment.scores.values()))
    assert tops[0] > tops[1] > 1 / 9


# -- time --------------------------------------------------------------------------------------


def exact(received: int, rate: int) -> int:
    return received * S // rate


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_an_hour_with_holes_does_not_drift_by_a_sample(rate: int) -> None:
    """Rounding once per hole would add up: 11 025 Hz has no whole ratio to 16 kHz."""
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
        assert line.position == line.channels[0].position == exact(received, rate)
    assert received > 3500 * rate
    list(line.finish())
    assert abs(line.channels[0].position - exact(received, rate)) <= 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_speech_after_many_holes_lies_where_it_was_said(rate: int, monkeypatch) -> None:
    monkeypatch.setitem(DETECTORS, "loud", LoudDetector)
    chosen = AnalysisSettings(vad=VadSettings("loud"))
    line = StreamPipeline(AudioFormat("linear16", rate, 1), (0,), BACKEND.info, chosen)
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
def test_holes_of_any_length_keep_time_exact(rate, parts) -> None:
    """One NaN sample in a chunk of one at 44.1 kHz: the drained resampler had rounded up, the
    position rounds down, and the way to go was minus one sample."""
    line = pipeline(AudioFormat("linear16", rate, 1))
    received = 0
    for fed, skipped in parts:
        list(line.feed(bytes(2 * fed)))
        list(line.skip(skipped))
        received += fed + skipped
        assert line.position == exact(received, rate)
        assert abs(line.channels[0].position - line.position) <= 1


def test_position_counts_whole_samples_at_once() -> None:
    line = pipeline(AudioFormat("linear16", 8_000, 2), (0, 1))
    list(line.feed(bytes(4 * 80 + 3)))
    assert (line.received, line.position) == (80, 160)
    list(line.feed(bytes(1)))
    assert (line.received, line.position) == (81, 162)


# -- broken audio ------------------------------------------------------------------------------


def broken(data: bytes) -> bytes:
    return data[:40] + np.array([np.nan], "<f4").tobytes() + data[44:]


def test_audio_that_is_no_number_is_refused_and_time_goes_on_exactly() -> None:
    audio = AudioFormat("f32le", S, 1)
    line = pipeline(audio)
    chunk = noise(0.1, -80).astype("<f4").tobytes()
    list(line.feed(chunk))
    with pytest.raises(InvalidAudio):
        list(line.feed(broken(chunk)))
    assert line.position == line.channels[0].position == 2 * S // 10
    list(line.feed(chunk))
    assert line.position == 3 * S // 10


def test_audio_that_is_no_number_poisons_nothing_after_it() -> None:
    """Through the resampler's memory one NaN would turn all later audio into NaN."""
    audio = STUDIO
    line = pipeline(audio)
    with pytest.raises(InvalidAudio):
        list(line.feed(broken(bytes(4 * 4410))))
    events: list[Event] = []
    for item in [*line.feed(wire(STUDIO)), *line.finish()]:
        if isinstance(item, Window):
            assert np.isfinite(item.audio).all()
            line.taken(item)
            events += line.scored(BACKEND.score(item))
    scores = [event for event in events if isinstance(event, Score)]
    assert len(scores) >= 3
    assert all(np.isfinite(list(score.scores.values())).all() for score in scores)


def test_speech_before_broken_audio_gets_its_result() -> None:
    line = pipeline(AudioFormat("f32le", S, 1))
    data = clip_audio(clips()[0])[: 7 * S // 10].astype("<f4").tobytes()
    list(line.feed(data))
    kinds: list[type] = []
    with pytest.raises(InvalidAudio):
        kinds.extend(map(type, line.feed(broken(data))))
    assert SpeechEnd in kinds
    assert Window in kinds


def test_a_producer_that_starts_again_is_aligned() -> None:
    line = pipeline()
    list(line.feed(b"\x01"))
    line.realign()
    list(line.feed(bytes(640)))
    assert line.received == 320


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [MONO, PHONE, STUDIO], ids=["mono", "phone", "studio"])
def test_finish_flushes_speech_that_the_recording_cuts_off(audio: AudioFormat) -> None:
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


def test_flush_gives_a_result_for_all_speech_heard_so_far() -> None:
    line = pipeline()
    list(line.feed(linear16(clip_audio(clips()[0])[: S // 2])))
    kinds = [type(item) for item in line.flush()]
    assert kinds == [SpeechEnd, Window]
    assert list(line.flush()) == []


def test_nothing_at_all_gives_nothing() -> None:
    line = pipeline(STUDIO)
    assert analyse(line, [], BACKEND.score) == []
    assert analyse(line, [b""], BACKEND.score) == []
    assert (line.position, line.lost) == (0, 0)
    assert line.channels[0].summary() == {}


def test_windows_and_gaps_of_one_channel_are_kept_from_the_other() -> None:
    line = pipeline(PHONE, (0, 1))
    windows = [item for item in line.feed(wire(PHONE)) if isinstance(item, Window)]
    second = next(window for window in windows if window.channel == 1)
    line.taken(second)
    gaps = line.failed(second, "inference_timeout")
    assert {event.channel for event in gaps} == {1}
    assert line.channels[1].lost == line.lost > 0
    assert line.channels[0].lost == 0
