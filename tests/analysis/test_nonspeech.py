"""Classification of tones, music, noise and cries against speech, alone and in a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.analysis.nonspeech import NO_SOUND, SoundStats, measure
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.tones import tonal_share
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


def burst(hz: Sequence[float], seconds: float, pause: float = 0.0, dbfs: float = -20.0) -> Samples:
    """Return sines of these frequencies together, and a pause."""
    tones: Samples = np.sum([sine(seconds, each, dbfs) for each in hz], axis=0, dtype=np.float32)
    return np.concatenate([tones, silence(pause)])


@pytest.mark.parametrize("key", DTMF)
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3])
def test_a_single_telephone_key_is_a_tone(key: str, seconds: float) -> None:
    """An utterance has a pre-roll of 0.3 s before its first voiced frame."""
    pressed = np.concatenate([noise(0.3, -70), burst(DTMF[key], seconds), noise(0.1, -70)])
    assert stats(pressed).sound == "tone"


@pytest.mark.parametrize("pair", [*combinations((700, 900, 1100, 1300, 1500, 1700), 2)])
def test_a_single_digit_between_exchanges_is_a_tone(pair: tuple[float, float]) -> None:
    """They last 68 ms, in which no two frames show that a frequency is constant: half of them were
    no tones."""
    sent = np.concatenate([noise(0.3, -70), burst(pair, 0.068), noise(0.1, -70)])
    assert stats(sent).sound == "tone"


def test_keyed_digits_are_known_in_noise_in_which_other_tones_are_not() -> None:
    """Of the energy of a digit in line noise, 0.75 to 0.85 lie in its two lines."""

    def share(*hz: float) -> float:
        return tonal_share(np.ascontiguousarray((burst(hz, 0.3) + noise(0.3, -23.0))[::2]))

    assert share(770, 1336) > 0.7
    assert share(600, 1100) < 0.1


def digits(on: float, off: float, loudness: float = -20.0) -> Samples:
    return np.concatenate([burst(pair, on, off, loudness) for pair in DTMF.values()] * 4)


SIGNALS = {
    "digits, 50 ms": digits(0.05, 0.05),
    "digits, 100 ms": digits(0.1, 0.1),
    "digits, slow": digits(0.25, 0.35),
    "busy, Europe": np.concatenate([burst([425], 0.48, 0.48)] * 6),
    "busy, America": np.concatenate([burst([480, 620], 0.5, 0.5)] * 6),
    "fast busy": np.concatenate([burst([480, 620], 0.25, 0.25)] * 10),
    "ringing, America": np.concatenate([burst([440, 480], 2, 2)] * 2),
    "ringing, Britain": np.concatenate([burst([400, 450], 0.4, 0.2)] * 4),
    "dial tone": burst([350, 440], 4),
    "information": np.concatenate([burst([hz], 0.33) for hz in (950, 1400, 1800)] * 2),
    "fax calling": np.concatenate([burst([1100], 0.5, 1.5)] * 3),
    "fax answering": burst([2100], 3),
    "beeps": np.concatenate([burst([1000], 0.12, 0.5)] * 8),
    "alarm": np.concatenate([burst([800], 0.5), burst([1000], 0.5)] * 4),
    "morse": np.concatenate([burst([700], on, 0.06) for on in (0.06, 0.18, 0.06, 0.18)] * 8),
}


@pytest.mark.parametrize("background", [-90, -45])
@pytest.mark.parametrize("name", SIGNALS)
def test_signal_tones_with_pauses_are_tones(name: str, background: float) -> None:
    signal = SIGNALS[name]
    noisy = signal + noise(len(signal) / SAMPLE_RATE, background)
    assert stats(noisy).sound == "tone"


@pytest.mark.parametrize("hz", [120, 220, 300])
def test_a_held_vowel_is_not_a_tone(hz: float) -> None:
    """Nor is a hummed "mm": a voice that holds a note wavers by 1 % some five times a second."""
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wavering = hz * (1 + 0.01 * np.sin(2 * np.pi * 5 * seconds))
    assert stats(harmonic(wavering, partials=2)).sound != "tone"


def test_a_short_piece_of_a_tone_is_speech_unless_it_is_tonal() -> None:
    """A caller says "yes" half a second after a keyed digit, in the same utterance."""
    whole = stats(digits(0.1, 0.1))
    yes = measure(harmonic(np.linspace(110, 150, SAMPLE_RATE // 2)))
    assert yes.within(whole + yes) is None
    assert measure(digits(0.1, 0.1)[: SAMPLE_RATE // 2]).within(whole) == "tone"
    assert measure(silence(0.05)).within(whole) == "tone"


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


def test_speech_right_after_keyed_digits_is_scored_and_the_digits_are_not() -> None:
    """A caller keys a number and speaks without a pause: one utterance for the VAD."""
    speech = clip_audio(clips()[0])
    keyed = digits(0.1, 0.1)
    events = run(np.concatenate([noise(1, -70), keyed, speech, noise(1, -70)]))
    (segment,) = segments(events)
    assert segment.scores
    assert segment.covered < 1
    (alone,) = segments(run(np.concatenate([noise(1, -70), speech, noise(1, -70)])))
    assert max(segment.scores, key=segment.scores.__getitem__) == max(
        alone.scores, key=alone.scores.__getitem__
    )


def test_speech_after_a_ringing_tone_is_an_utterance_of_its_own() -> None:
    speech = clip_audio(clips()[0])
    found = segments(run(np.concatenate([sine(3, 440), speech, silence(1)])))
    assert [bool(segment.scores) for segment in found] == [False, True]
    assert "tone" in found[0].hints
    assert found[1].start == pytest.approx(3 * SAMPLE_RATE, abs=SAMPLE_RATE // 2)


def test_dropped_tones_are_not_counted_as_speech() -> None:
    """Twelve keyed digits counted as 5 s of speech, so a call without a word had a verdict."""
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([noise(1, -70), digits(0.1, 0.1), noise(1, -70)])
    analyse(pipeline, [linear16(audio)], BACKEND.score)
    assert pipeline.channels[0].utterances == 1
    assert pipeline.channels[0].speech == 0
    spoken = np.concatenate([clip_audio(clips()[0]), silence(1)])
    (segment,) = segments(analyse(pipeline, [linear16(spoken)], BACKEND.score))
    assert pipeline.channels[0].speech == segment.end - segment.start


def test_no_later_window_covers_a_dropped_tone() -> None:
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    audio = np.concatenate([digits(0.1, 0.1), clip_audio(clips()[0]), silence(1)])
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
