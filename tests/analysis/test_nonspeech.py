"""Classification of tones, music, noise and cries against speech, alone and in a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.analysis.nonspeech import NO_SOUND, SoundStats, measure
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.vad import VadSettings
from stream.types import SAMPLE_RATE, AudioFormat, Event, Samples, Score, Segment, Window
from tests.support.signals import (
    ToneBackend,
    amplitude,
    as_tuples,
    chunks,
    clip_audio,
    clips,
    linear16,
    noise,
    silence,
    sine,
)

DTMF = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477), "#": (941, 1477), "0": (941, 1336)}
BACKEND = ToneBackend()


def harmonic(hz: NDArray[np.float64], dbfs: float = -20.0, partials: int = 8) -> Samples:
    """Return a harmonic sound whose pitch follows `hz` sample by sample."""
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    harmonics = [np.sin(k * phase) / k for k in range(1, partials + 1)]
    wave: NDArray[np.float64] = np.sum(harmonics, axis=0)
    rms = float(np.sqrt((wave**2).mean()))
    return (amplitude(dbfs) * wave / rms).astype(np.float32)


def chord(seconds: float, notes: Sequence[float]) -> Samples:
    count = round(seconds * SAMPLE_RATE)
    sounds: Samples = np.sum([harmonic(np.full(count, float(hz))) for hz in notes], axis=0)
    decay = np.exp(-2 * np.arange(count) / SAMPLE_RATE)
    return (sounds / len(notes) * decay).astype(np.float32)


def melody() -> Samples:
    """Return music on hold: notes of half a second, each with its octave."""
    return np.concatenate([chord(0.5, (hz, 2 * hz)) for hz in (262, 220, 175, 196) * 2])


def cry() -> Samples:
    """Return a cry: 0.7 s falling from 480 to 420 Hz and a breath of 0.3 s, four times."""
    phrase = harmonic(np.linspace(480, 420, round(0.7 * SAMPLE_RATE)))
    return np.concatenate([phrase, noise(0.3, -50)] * 4)


def stats(audio: Samples) -> SoundStats:
    """Return the statistics of a recording, summed second by second as in a channel."""
    pieces = (audio[i : i + SAMPLE_RATE] for i in range(0, len(audio), SAMPLE_RATE))
    return sum(map(measure, pieces), NO_SOUND)


@pytest.mark.parametrize("hz", [120, 350, 440, 700, 1000])
def test_a_sine_is_a_tone(hz: float) -> None:
    assert stats(sine(2, hz)).sound == "tone"


@pytest.mark.parametrize("key", DTMF)
def test_a_telephone_key_is_a_tone_within_a_third_of_a_second(key: str) -> None:
    low, high = DTMF[key]
    assert stats(sine(0.32, low) + sine(0.32, high)).sound == "tone"


def test_a_dialling_tone_with_line_noise_is_a_tone() -> None:
    assert stats(sine(2, 350) + sine(2, 440) + noise(2, -45)).sound == "tone"


def test_notes_are_music() -> None:
    assert stats(melody()).sound == "music"


def test_triads_without_a_common_pitch_are_music_or_noise() -> None:
    triads = [chord(1, three) for three in [(262, 330, 392), (220, 262, 330), (175, 220, 262)]]
    assert stats(np.concatenate(triads)).sound in ("music", "noise")


def test_steady_noise_is_a_hiss() -> None:
    assert stats(noise(2, -30)).sound == "hiss"


def test_noise_of_varying_level_is_noise() -> None:
    swell = 1 + 0.9 * np.sin(2 * np.pi * 1.5 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    assert stats((noise(3, -30) * swell).astype(np.float32)).sound == "noise"


def test_a_cry_has_a_high_pitch() -> None:
    assert stats(cry()).sound == "high_pitch"


@pytest.mark.parametrize(("low", "high"), [(110, 220), (300, 180), (90, 130)])
def test_a_gliding_pitch_is_ordinary_speech(low: float, high: float) -> None:
    assert stats(harmonic(np.linspace(low, high, SAMPLE_RATE))).sound is None


@pytest.mark.parametrize("audio", [silence(2), noise(0.01), silence(0), sine(0.06, 440)])
def test_silence_and_short_pieces_have_no_class(audio: Samples) -> None:
    assert measure(audio) == NO_SOUND
    assert NO_SOUND.sound is None


def test_real_speech_is_always_scored_and_rarely_gets_a_hint() -> None:
    sounds = [stats(clip_audio(path)).sound for path in clips()]
    assert not {"tone", "hiss"}.intersection(sounds)
    assert sum(sound is not None for sound in sounds) <= 0.02 * len(sounds)


# -- in a pipeline -----------------------------------------------------------------------------


def run(audio: Samples, sizes: Sequence[int] = (3200,), only_speech: bool = True) -> list[Event]:
    vad = VadSettings(only_speech=only_speech)
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings(vad=vad))
    return analyse(pipeline, list(chunks(linear16(audio), sizes)), BACKEND.score)


def segments(events: Iterable[Event]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def keys() -> Samples:
    pause = noise(1, -70)
    pressed = [piece for a, b in DTMF.values() for piece in (sine(0.3, a) + sine(0.3, b), pause)]
    return np.concatenate([pause, *pressed])


def test_keys_pressed_in_a_call_have_no_scores() -> None:
    """A caller typed a customer number: every key became an utterance, and most of them were scored
    as happy or sad, some with a share of 0.95."""
    assert any(segment.scores for segment in segments(run(keys(), only_speech=False)))
    events = run(keys())
    of_keys = segments(events)
    assert len(of_keys) == len(DTMF)
    assert all(not segment.scores and "tone" in segment.hints for segment in of_keys)
    assert not [event for event in events if isinstance(event, Score)]


def test_speech_after_a_tone_is_scored_and_the_tone_is_not() -> None:
    """A ringing tone is followed by "hello" without a pause: one utterance for the VAD."""
    speech = clip_audio(clips()[0])
    ringing = sine(3, 440)
    (segment,) = segments(run(np.concatenate([ringing, speech, silence(1)])))
    assert segment.scores
    assert segment.covered < 1
    (alone,) = segments(run(np.concatenate([noise(1, -70), speech, silence(1)])))
    assert max(segment.scores, key=segment.scores.__getitem__) == max(
        alone.scores, key=alone.scores.__getitem__
    )


def test_no_later_window_covers_a_dropped_tone() -> None:
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([sine(3, 440), clip_audio(clips()[0]), silence(1)])
    windows = [
        item
        for chunk in chunks(linear16(audio), (3200,))
        for item in pipeline.feed(chunk)
        if isinstance(item, Window)
    ]
    assert windows
    assert all(start >= 2 * SAMPLE_RATE for w in windows for start, _ in w.speech)


def test_music_is_scored_with_a_hint() -> None:
    music = segments(run(np.concatenate([melody(), silence(1)])))
    assert music
    assert all("music" in segment.hints for segment in music if segment.quality.speech_s > 1)


def test_an_utterance_before_a_tone_waits_for_its_scores() -> None:
    """The tone after it needs no model. If it settled at once, the segment of the speech before it
    would be emitted without scores while its window still waited in the scheduler."""
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([clip_audio(clips()[0]), noise(1, -70), sine(0.3, 440), noise(1, -70)])
    waiting: list[Window] = []
    events: list[Event] = []
    for chunk in chunks(linear16(audio), (3200,)):
        for item in pipeline.feed(chunk):
            if isinstance(item, Window):
                waiting.append(item)
            else:
                events.append(item)
    assert segments(events) == []
    for window in waiting:
        pipeline.taken(window)
        events += pipeline.scored(BACKEND.score(window))
    speech, tone = segments(events)
    assert speech.scores
    assert (tone.scores, "tone" in tone.hints) == ({}, True)


@pytest.mark.parametrize("sizes", [(320,), (2, 4000, 6), (99_998,)])
def test_any_chunking_gives_the_same_events(sizes: Sequence[int]) -> None:
    audio = np.concatenate([keys(), melody(), silence(1), clip_audio(clips()[0]), silence(1)])
    assert as_tuples(run(audio, sizes)) == as_tuples(run(audio))
