"""Tones, music, noise and cries are told from speech by how their pitch moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from stream.analysis.nonspeech import NOTHING, SoundStats, measure
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.vad import VadSettings
from stream.types import SAMPLE_RATE, AudioFormat, Event, Samples, Score, Segment, Window
from tests.support.signals import (
    ToneBackend,
    chunks,
    clip_audio,
    clips,
    linear16,
    noise,
    plain,
    silence,
    sine,
)

DTMF = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477), "#": (941, 1477), "0": (941, 1336)}
BACKEND = ToneBackend()


def harmonic(hz: np.ndarray, dbfs: float = -20.0, partials: int = 8) -> Samples:
    """A buzz whose pitch follows `hz` sample by sample."""
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    wave = np.sum([np.sin(k * phase) / k for k in range(1, partials + 1)], axis=0)
    return (10 ** (dbfs / 20) * wave / np.sqrt((wave**2).mean())).astype(np.float32)


def chord(seconds: float, notes: Sequence[float]) -> Samples:
    count = round(seconds * SAMPLE_RATE)
    voices = [harmonic(np.full(count, float(hz))) for hz in notes]
    decay = np.exp(-2 * np.arange(count) / SAMPLE_RATE)
    return (np.sum(voices, axis=0) / len(notes) * decay).astype(np.float32)


def melody() -> Samples:
    """Notes with their octave of half a second each, as on hold."""
    return np.concatenate([chord(0.5, (hz, 2 * hz)) for hz in (262, 220, 175, 196) * 2])


def cry() -> Samples:
    """Half a second around 450 Hz, falling, and a breath; four times."""
    bout = harmonic(np.linspace(480, 420, round(0.7 * SAMPLE_RATE)))
    return np.concatenate([bout, noise(0.3, -50)] * 4)


def heard(audio: Samples) -> SoundStats:
    """Evidence of a recording as a channel gathers it, second by second."""
    pieces = (audio[i : i + SAMPLE_RATE] for i in range(0, len(audio), SAMPLE_RATE))
    return sum(map(measure, pieces), NOTHING)


@pytest.mark.parametrize("hz", [120, 350, 440, 700, 1000])
def test_a_sine_is_a_tone(hz: float) -> None:
    assert heard(sine(2, hz)).sound == "tone"


@pytest.mark.parametrize("key", DTMF)
def test_a_key_of_the_telephone_is_a_tone_within_a_third_of_a_second(key: str) -> None:
    low, high = DTMF[key]
    assert heard(sine(0.32, low) + sine(0.32, high)).sound == "tone"


def test_a_dialling_tone_with_the_line_noise_under_it_is_a_tone() -> None:
    assert heard(sine(2, 350) + sine(2, 440) + noise(2, -45)).sound == "tone"


def test_notes_are_music() -> None:
    assert heard(melody()).sound == "music"


def test_triads_without_a_common_pitch_are_at_least_no_speech() -> None:
    triads = [chord(1, three) for three in [(262, 330, 392), (220, 262, 330), (175, 220, 262)]]
    assert heard(np.concatenate(triads)).sound in ("music", "noise")


def test_what_stays_as_it_is_and_has_no_pitch_is_a_hiss() -> None:
    assert heard(noise(2, -30)).sound == "hiss"


def test_a_noise_that_comes_and_goes_is_noise() -> None:
    swell = 1 + 0.9 * np.sin(2 * np.pi * 1.5 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    assert heard((noise(3, -30) * swell).astype(np.float32)).sound == "noise"


def test_a_cry_holds_a_high_pitch() -> None:
    assert heard(cry()).sound == "high_pitch"


@pytest.mark.parametrize(("low", "high"), [(110, 220), (300, 180), (90, 130)])
def test_a_gliding_pitch_is_ordinary(low: float, high: float) -> None:
    assert heard(harmonic(np.linspace(low, high, SAMPLE_RATE))).sound is None


@pytest.mark.parametrize("audio", [silence(2), noise(0.01), silence(0), sine(0.06, 440)])
def test_silence_and_snippets_say_nothing(audio: Samples) -> None:
    assert measure(audio) == NOTHING
    assert NOTHING.sound is None


def test_real_speech_is_never_refused_and_hardly_ever_hinted() -> None:
    told = [heard(clip_audio(path)).sound for path in clips()]
    assert not {"tone", "hiss"}.intersection(told)
    assert sum(sound is not None for sound in told) <= 0.02 * len(told)


# -- in the line -------------------------------------------------------------------------------


def run(audio: Samples, sizes: Sequence[int] = (3200,), only_speech: bool = True) -> list[Event]:
    vad = VadSettings(only_speech=only_speech)
    line = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings(vad=vad))
    return analyse(line, list(chunks(linear16(audio), sizes)), BACKEND.score)


def segments(events: Iterable[Event]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def keys() -> Samples:
    pause = noise(1, -70)
    pressed = [piece for a, b in DTMF.values() for piece in (sine(0.3, a) + sine(0.3, b), pause)]
    return np.concatenate([pause, *pressed])


def test_keys_pressed_in_a_call_make_no_emotion() -> None:
    """A caller typed a customer number: every key was an utterance, and most of them were told as
    happy or sad, some with a share of 0.95."""
    assert any(segment.scores for segment in segments(run(keys(), only_speech=False)))
    events = run(keys())
    told = segments(events)
    assert len(told) == len(DTMF)
    assert all(not segment.scores and "tone" in segment.hints for segment in told)
    assert not [event for event in events if isinstance(event, Score)]


def test_speech_after_a_tone_is_scored_and_the_tone_is_not() -> None:
    """The ringing tone goes over into "hello" without a pause: one utterance for the VAD."""
    speech = clip_audio(clips()[0])
    ringing = sine(3, 440)
    (segment,) = segments(run(np.concatenate([ringing, speech, silence(1)])))
    assert segment.scores
    assert segment.covered < 1
    (alone,) = segments(run(np.concatenate([noise(1, -70), speech, silence(1)])))
    assert max(segment.scores, key=segment.scores.__getitem__) == max(
        alone.scores, key=alone.scores.__getitem__
    )


def test_no_window_covers_a_tone_that_was_passed_by() -> None:
    line = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([sine(3, 440), clip_audio(clips()[0]), silence(1)])
    windows = [
        item
        for chunk in chunks(linear16(audio), (3200,))
        for item in line.feed(chunk)
        if isinstance(item, Window)
    ]
    assert windows
    assert all(start >= 2 * SAMPLE_RATE for w in windows for start, _ in w.speech)


def test_music_is_scored_with_a_hint() -> None:
    told = segments(run(np.concatenate([melody(), silence(1)])))
    assert told
    assert all("music" in segment.hints for segment in told if segment.quality.speech_s > 1)


def test_an_utterance_before_a_tone_waits_for_its_scores() -> None:
    """The tone after it needs no model. Had it been settled at once, the segment of the speech
    before would have been told empty while its window still waited for the batcher."""
    line = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([clip_audio(clips()[0]), noise(1, -70), sine(0.3, 440), noise(1, -70)])
    waiting, told = [], []
    for chunk in chunks(linear16(audio), (3200,)):
        for item in line.feed(chunk):
            (waiting if isinstance(item, Window) else told).append(item)
    assert segments(told) == []
    for window in waiting:
        line.taken(window)
        told += line.scored(BACKEND.score(window))
    speech, tone = segments(told)
    assert speech.scores
    assert (tone.scores, "tone" in tone.hints) == ({}, True)


@pytest.mark.parametrize("sizes", [(320,), (2, 4000, 6), (99_998,)])
def test_the_chunks_do_not_matter(sizes: Sequence[int]) -> None:
    audio = np.concatenate([keys(), melody(), silence(1), clip_audio(clips()[0]), silence(1)])
    assert plain(run(audio, sizes)) == plain(run(audio))
