"""High-pass filter: response, chunking, and offset, hum and rumble in a whole pipeline."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.analysis.highpass import CUTOFF_HZ, HighPass
from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.types import FRAME, SAMPLE_RATE, AudioFormat, Event, Samples, Score, Segment
from tests.support.signals import (
    ToneBackend,
    amplitude,
    chunks,
    clip_audio,
    clips,
    linear16,
    noise,
    sine,
)

BACKEND = ToneBackend()


def gain_db(hz: float) -> float:
    """Return the gain of the filter at a frequency, without the first 0.5 s."""
    tone = sine(1.5, hz)
    filtered = HighPass().push(tone)[SAMPLE_RATE // 2 :]
    return float(20 * np.log10(filtered.std() / tone.std()))


@pytest.mark.parametrize("hz", [10, 25, 50, 60, CUTOFF_HZ, 120, 200, 400, 1000, 3900])
def test_the_response_is_that_of_a_butterworth_filter_of_second_order(hz: float) -> None:
    """Its bilinear transform is exact at tan(pi f / rate), so the prototype is the reference."""
    warped = np.tan(np.pi * hz / SAMPLE_RATE) / np.tan(np.pi * CUTOFF_HZ / SAMPLE_RATE)
    expected = -10 * np.log10(1 + warped**-4)
    assert gain_db(hz) == pytest.approx(expected, abs=0.05)


@given(
    blocks=st.lists(st.integers(1, 16), min_size=1, max_size=8),
    seed=st.integers(0, 99),
    offset=st.floats(-20_000, 20_000, width=32),
)
@settings(deadline=None, max_examples=60)
def test_any_grouping_of_frames_gives_the_same_output_to_the_bit(
    blocks: list[int], seed: int, offset: float
) -> None:
    audio = noise(sum(blocks) * FRAME / SAMPLE_RATE, -20, seed) * 32768 + np.float32(offset)
    at_once = HighPass().push(audio)
    by_block = HighPass()
    at = np.cumsum([0, *blocks]) * FRAME
    pieces = [by_block.push(audio[a:b]) for a, b in pairwise(at)]
    assert np.concatenate(pieces).tobytes() == at_once.tobytes()


@pytest.mark.parametrize("offset", [-32_768, -1, 0, 1_638, 32_767])
def test_a_constant_offset_yields_silence_from_the_first_sample(offset: float) -> None:
    constant = np.full(100 * FRAME, offset, np.float32)
    assert np.abs(HighPass().push(constant)).max() < 0.01


def test_an_offset_that_steps_is_gone_within_a_frame() -> None:
    audio = np.repeat(np.array([0, 8_000], np.float32), 10 * FRAME)
    filtered = HighPass().push(audio)
    assert np.abs(filtered[11 * FRAME :]).max() < 8_000 * 1e-3


def test_after_a_reset_the_audio_before_has_no_effect() -> None:
    high_pass = HighPass()
    high_pass.push(noise(1, -10) * 32768)
    high_pass.reset()
    audio = noise(1, -20, seed=1) * 32768 + 500
    assert high_pass.push(audio).tobytes() == HighPass().push(audio).tobytes()


# -- in a pipeline -----------------------------------------------------------------------------


def run(audio: Samples) -> list[Event]:
    pipeline = StreamPipeline(AudioFormat(), (0,), BACKEND.info, AnalysisSettings())
    return analyse(pipeline, list(chunks(linear16(audio), (3200,))), BACKEND.score)


def segments(events: list[Event]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def speech() -> Samples:
    """Return three clips at -24 dBFS with faint noise for 1 s before, between and after them."""
    pieces = [noise(1, -70)]
    for n, path in enumerate(clips()[:3]):
        clip = clip_audio(path)
        level = amplitude(-24) / float(np.sqrt(np.square(clip).mean()))
        pieces += [clip * np.float32(level), noise(1, -70, seed=n + 1)]
    return np.concatenate(pieces)


def seconds(count: int) -> NDArray[np.float64]:
    return np.arange(count) / SAMPLE_RATE


OFFSETS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "constant": lambda t: np.full(len(t), 0.05),
    "negative": lambda t: np.full(len(t), -0.3),
    "drifts": lambda t: 0.1 * np.sin(2 * np.pi * 0.1 * t),
    "steps": lambda t: np.where(t < 5, 0.02, 0.08),
}


@pytest.mark.parametrize("kind", OFFSETS)
def test_an_offset_has_no_effect_on_speech_snr_and_scores(kind: str) -> None:
    """A sound card added a constant 0.05 to a recording. Its pauses counted as loud, so the SNR
    fell from 38 to -9 dB, the hint `noisy` appeared, and most labels changed."""
    audio = speech()
    plain = run(audio)
    shifted = run((audio + OFFSETS[kind](seconds(len(audio)))).astype(np.float32))
    assert len(segments(plain)) >= 3
    for clean, other in zip(segments(plain), segments(shifted), strict=True):
        assert (other.start, other.end) == pytest.approx((clean.start, clean.end), abs=3 * FRAME)
        assert other.hints == clean.hints
        assert other.quality.rms_dbfs == pytest.approx(clean.quality.rms_dbfs, abs=0.3)
        assert clean.quality.snr_db is not None
        assert other.quality.snr_db == pytest.approx(clean.quality.snr_db, abs=3)
        assert list(other.scores.values()) == pytest.approx(list(clean.scores.values()), abs=0.02)


def test_clipping_is_counted_before_the_offset_is_removed() -> None:
    """Speech that an offset pushes into full scale on one side is clipped, although the filtered
    audio stays below full scale."""
    audio = np.clip(speech() * 8 + 0.4, -1, 1).astype(np.float32)
    assert any("clipped" in segment.hints for segment in segments(run(audio)))


HUMS = {
    "50 Hz": {50: 1.0},
    "50 Hz with odd harmonics": {50: 1.0, 150: 0.4, 250: 0.2},
    "60 Hz": {60: 1.0, 120: 0.5, 180: 0.3},
    "rectifier, 100 Hz": {100: 1.0, 200: 0.5, 300: 0.3},
    "rectifier, 120 Hz": {120: 1.0, 240: 0.5, 360: 0.3},
    "third harmonic": {150: 1.0},
}


@pytest.mark.parametrize("level", [-30, -40])
@pytest.mark.parametrize("kind", HUMS)
def test_pauses_are_found_in_hum_from_the_first_sample(kind: str, level: float) -> None:
    """A recording with mains hum from its first sample was one utterance of 12 s, because the
    detector learns the background from pauses and took the hum for speech."""
    audio = speech()
    t = seconds(len(audio))
    hum = np.sum([a * np.sin(2 * np.pi * hz * t) for hz, a in HUMS[kind].items()], axis=0)
    hum *= amplitude(level) / np.sqrt(np.square(hum).mean())
    found = segments(run((audio + hum).astype(np.float32)))
    clean = segments(run(audio))
    if found[0].start == 0:
        # It takes half a second to recognise the hum.
        hum_only = found.pop(0)
        assert hum_only.end < SAMPLE_RATE // 2
    assert len(found) == len(clean) >= 3
    ends = [segment.end for segment in found]
    for segment in clean:
        assert min(abs(segment.end - end) for end in ends) < 0.3 * SAMPLE_RATE


def test_hum_alone_is_no_speech_after_half_a_second() -> None:
    events = run(sine(10, 50, -25) + sine(10, 150, -33) + noise(10, -70))
    assert not [event for event in events if isinstance(event, Score)]
    assert all(segment.end < SAMPLE_RATE // 2 for segment in segments(events))
