"""Audio quality and hints, measured on sounds of known level, SNR and bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.analysis import quality as quality_module
from stream.analysis.levels import clipped_samples, frame_power
from stream.analysis.nonspeech import SoundStats, measure
from stream.analysis.quality import QualityMeter, dbfs, gain_is_automatic, hints
from stream.types import FRAME, SAMPLE_RATE, Quality, Samples
from tests.support.signals import at_rate, clip_audio, clips, int16, noise, silence, sine


def metered(audio: Samples, voiced: bool = True, meter: QualityMeter | None = None) -> QualityMeter:
    meter = meter or QualityMeter(SAMPLE_RATE)
    pcm = steps(audio)
    clipped, power = clipped_samples(pcm), frame_power(pcm)
    if voiced:
        meter.speech(power, clipped)
    else:
        meter.pause(power)
    return meter


def steps(audio: Samples) -> Samples:
    """Return the whole frames of `audio` as float32 in steps of int16."""
    return int16(audio)[: len(audio) // FRAME * FRAME].astype(np.float32)


def band(audio: Samples, rate: int = SAMPLE_RATE) -> str | None:
    meter = QualityMeter(rate)
    meter.spectrum(audio)
    return meter.quality().band


@pytest.mark.parametrize("level", [-3.5, -20.0, -40.0, -60.0])
def test_the_level_is_the_rms_in_dbfs(level: float) -> None:
    assert metered(sine(1, 440, level)).quality().rms_dbfs == pytest.approx(level, abs=0.2)


def test_full_scale_is_0_dbfs_and_silence_is_minus_96() -> None:
    assert dbfs(1.0) == 0.0
    assert dbfs(0.0) == dbfs(1e-30) == -96.0
    assert metered(silence(1)).quality().rms_dbfs == -96.0


def test_only_voiced_frames_count_for_the_level() -> None:
    meter = metered(sine(1, 440, -20))
    metered(silence(5), voiced=False, meter=meter)
    assert meter.quality().rms_dbfs == pytest.approx(-20, abs=0.1)
    assert meter.quality().speech_s == 1.0


def test_samples_at_full_scale_count_as_clipped() -> None:
    pcm = np.zeros(2 * FRAME, np.float32)
    pcm[:5] = [32767, -32768, 32700, -32700, 32699]
    assert clipped_samples(pcm) == [4, 0]
    assert metered(sine(1, 440, -20)).quality().clipped == 0
    # A sine overdriven by a factor of 4 is at full scale for 1 − 2·asin(1/4)/π of the time.
    overdriven = np.clip(sine(1, 441, -3) * 4, -1, 1)
    assert metered(overdriven).quality().clipped == pytest.approx(0.84, abs=0.02)


@pytest.mark.parametrize("snr", [5.0, 15.0, 30.0])
def test_the_snr_compares_speech_with_the_pauses(snr: float) -> None:
    meter = metered(noise(3, -50, seed=1), voiced=False)
    meter.begin()
    power = 10 ** ((snr - 50) / 20)
    speech = sine(2, 300, 0) * power + noise(2, -50, seed=2)
    assert metered(speech, meter=meter).quality().snr_db == pytest.approx(snr, abs=0.7)


def test_the_snr_is_unknown_until_there_was_a_pause_and_speech() -> None:
    assert metered(sine(1, 440)).quality().snr_db is None
    assert metered(noise(1, -50), voiced=False).quality().snr_db is None


def test_the_snr_against_digital_silence_is_high_but_finite() -> None:
    meter = metered(silence(1), voiced=False)
    assert metered(sine(1, 440, -10), meter=meter).quality().snr_db == 60.0


def test_the_noise_floor_adapts_within_9_s() -> None:
    meter = metered(noise(5, -70), voiced=False)
    metered(noise(9, -40), voiced=False, meter=meter)
    meter.begin()
    assert metered(sine(1, 300, -20), meter=meter).quality().snr_db == pytest.approx(20, abs=1)


def test_begin_resets_the_utterance_and_keeps_the_noise_floor() -> None:
    meter = metered(noise(2, -50), voiced=False)
    metered(np.clip(sine(1, 441, -3) * 4, -1, 1), meter=meter)
    meter.begin()
    fresh = meter.quality()
    assert (fresh.speech_s, fresh.clipped, fresh.rms_dbfs) == (0.0, 0.0, -96.0)
    assert metered(sine(1, 300, -20), meter=meter).quality().snr_db == pytest.approx(30, abs=1)


def test_an_8_khz_source_is_always_narrow() -> None:
    assert band(noise(1), rate=8_000) == "narrow"
    assert QualityMeter(8_000).quality().band == "narrow"


def test_the_band_is_unknown_before_any_sound() -> None:
    assert QualityMeter(SAMPLE_RATE).quality().band is None
    assert band(silence(1)) is None


def test_white_noise_is_wide() -> None:
    assert band(noise(1)) == "wide"


CUTS = range(SAMPLE_RATE, 26_000, 400)
"""Ends of windows in a clip: they cut vowels in the middle as often as they lie in pauses."""


def telephone(audio: Samples) -> Samples:
    """Resample to 8 kHz and back, as a telephone line does."""
    audio = audio[: len(audio) // 4 * 4]
    return at_rate(at_rate(audio, 8_000), SAMPLE_RATE, 8_000)


@pytest.mark.parametrize("clip", clips(), ids=lambda path: path.stem)
def test_speech_is_wide_wherever_a_window_is_cut(clip: Path) -> None:
    audio = clip_audio(clip)
    assert {band(audio[:end]) for end in CUTS if end <= len(audio)} == {"wide"}


@pytest.mark.parametrize("clip", clips(), ids=lambda path: path.stem)
def test_speech_through_a_telephone_is_narrow_wherever_a_window_is_cut(clip: Path) -> None:
    """Softphones and bridges deliver calls at 16 kHz even if a telephone line removed the upper
    half of the band; only the spectrum shows it. A window may cut a vowel in the middle. Without a
    taper that edge spreads over all frequencies, and a narrow line was taken for a wide one."""
    audio = telephone(clip_audio(clip))
    bands = [band(audio[:end]) for end in CUTS if end <= len(audio)]
    assert bands == ["narrow"] * len(bands)


def test_a_short_window_of_a_telephone_is_narrow_too() -> None:
    """The taper has to be as long as the window: half of a taper leaves an edge at the end."""
    audio = telephone(clip_audio(clips()[0]))
    bands = [band(audio[end - SAMPLE_RATE // 2 : end]) for end in CUTS if end <= len(audio)]
    assert bands == ["narrow"] * len(bands)


@pytest.mark.parametrize("hz", [300, 997.3, 3000.5])
def test_a_low_tone_is_narrow_even_if_the_window_cuts_a_period(hz: float) -> None:
    assert band(sine(1, hz)) == "narrow"


@pytest.mark.parametrize(
    ("hz", "below_db", "expected"),
    [(6000, 38.5, "wide"), (6000, 41.5, "narrow"), (4000, 10, "narrow"), (4200, 10, "wide")],
)
def test_a_band_is_narrow_if_40_db_less_lies_above_4100_hz(
    hz: float, below_db: float, expected: str
) -> None:
    assert band(sine(1, 1000, -20) + sine(1, hz, -20 - below_db)) == expected


@pytest.mark.parametrize(("rate", "expected"), [(8_000, "narrow"), (8_001, "wide")])
def test_only_a_source_of_8_khz_needs_no_spectrum(rate: int, expected: str) -> None:
    assert band(noise(1), rate) == expected


def test_the_band_follows_the_newest_seconds_and_only_them() -> None:
    """The weights of older windows fall by a fifth each; the audio before the last second of a
    window was measured with the window before it."""
    meter = QualityMeter(SAMPLE_RATE)
    meter.spectrum(np.concatenate([noise(2), sine(1, 1000)]))
    assert meter.quality().band == "narrow"
    meter.spectrum(sine(1, 6000))
    for _ in range(30):
        assert meter.quality().band == "wide"
        meter.spectrum(sine(1, 1000))
    for _ in range(20):
        meter.spectrum(sine(1, 1000))
    assert meter.quality().band == "narrow"


def test_a_faint_hiss_does_not_decide_the_band_after_a_loud_voice() -> None:
    meter = QualityMeter(16_000)
    meter.spectrum(sine(1, 440, -10))
    meter.spectrum(noise(1, -55))
    assert meter.quality().band == "narrow"


def test_the_band_becomes_wide_again_after_a_narrow_start() -> None:
    meter = QualityMeter(SAMPLE_RATE)
    meter.spectrum(sine(3, 440))
    for _ in range(3):
        meter.spectrum(noise(3))
    assert meter.quality().band == "wide"


@given(blocks=st.lists(st.integers(1, 16), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_levels_do_not_depend_on_the_block_size(blocks: list[int], seed: int) -> None:
    """Block sizes depend on the chunking, results must not. A sum in another order would differ."""
    pcm = steps(noise(sum(blocks) * FRAME / SAMPLE_RATE, -20, seed))
    at_once = frame_power(pcm)
    at = np.cumsum([0, *blocks]) * FRAME
    pieces = [frame_power(pcm[a:b]) for a, b in pairwise(at)]
    assert [level for piece in pieces for level in piece] == at_once


@pytest.mark.parametrize("level", [300.0, 32_699.0, 32_700.0, 32_767.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_single_loud_sample_counts_if_it_is_clipped(level: float, sign: int) -> None:
    """Blocks that are too faint for a clipped sample are not searched for one."""
    pcm = np.zeros(3 * FRAME, np.float32)
    pcm[FRAME + 7] = sign * level
    assert clipped_samples(pcm) == [0, int(level >= 32_700), 0]


def test_samples_beyond_full_scale_are_limited() -> None:
    """A resampler overshoots by some percent, and the cast to int16 would wrap around."""
    pcm = np.tile(np.array([0, 40_000, -40_000, 5], np.float32), FRAME // 2)
    clipped, power = clipped_samples(pcm), frame_power(pcm)
    assert pcm[:4].tolist() == [0, 32_767, -32_768, 5]
    assert power == pytest.approx([0.5, 0.5], abs=1e-4)
    assert clipped == [FRAME // 2] * 2


@pytest.mark.parametrize("measure", [clipped_samples, frame_power])
@pytest.mark.parametrize("loud", [40_000, 32_768])
def test_what_comes_in_and_what_the_filter_adds_is_limited(
    measure: Callable[[Samples], object], loud: int
) -> None:
    """Clipping is counted before the high-pass filter, and levels are measured behind it."""
    pcm = np.tile(np.array([0, loud, -loud - 1, 5], np.float32), FRAME // 2)
    measure(pcm)
    assert pcm[:4].tolist() == [0, 32_767, -32_768, 5]


GOOD = Quality(rms_dbfs=-20.0, clipped=0.0, snr_db=30.0, band="wide", speech_s=3.0)


@pytest.mark.parametrize(
    ("quality", "top", "expected"),
    [
        (GOOD, 0.9, ()),
        (GOOD, None, ()),
        (GOOD, 0.4, ()),
        (GOOD, 0.39, ("low_confidence",)),
        (replace(GOOD, speech_s=1.0), 0.9, ()),
        (replace(GOOD, speech_s=0.98), 0.9, ("short_speech",)),
        (replace(GOOD, rms_dbfs=-45.0), 0.9, ()),
        (replace(GOOD, rms_dbfs=-45.1), 0.9, ("low_level",)),
        (replace(GOOD, clipped=0.005), 0.9, ()),
        (replace(GOOD, clipped=0.0051), 0.9, ("clipped",)),
        (replace(GOOD, snr_db=10.0), 0.9, ()),
        (replace(GOOD, snr_db=9.9), 0.9, ("noisy",)),
        (replace(GOOD, snr_db=None), 0.9, ()),
        (replace(GOOD, band="narrow"), 0.9, ("narrowband",)),
        (replace(GOOD, band=None), 0.9, ()),
        (
            replace(GOOD, band="narrow", speech_s=0.1),
            0.1,
            ("short_speech", "narrowband", "low_confidence"),
        ),
    ],
)
def test_hints_list_every_reason_to_doubt_a_score(
    quality: Quality, top: float | None, expected: tuple[str, ...]
) -> None:
    assert hints(quality, top) == expected


@pytest.mark.parametrize(
    ("attrs", "automatic"),
    [
        ({"capture": {"autoGainControl": True}}, True),
        ({"autoGainControl": True}, True),
        ({"capture": {"autoGainControl": False}}, False),
        ({"capture": {"sampleRate": 48000}}, False),
        ({"capture": "yes"}, False),
        ({"autoGainControl": "true"}, False),
        ({}, False),
    ],
)
def test_automatic_gain_is_read_from_the_attributes(attrs: dict[str, Any], automatic: bool) -> None:
    assert gain_is_automatic(attrs) is automatic


def test_the_piece_after_clear_speech_is_not_measured_and_the_next_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search for other sounds was the dearest part of a telephone call's analysis."""
    measured: list[int] = []

    def counted(audio: Samples) -> SoundStats:
        measured.append(len(audio))
        return measure(audio)

    monkeypatch.setattr(quality_module, "measure", counted)
    meter = QualityMeter(16_000)
    speech = next(
        piece
        for path in clips()
        for piece in (clip_audio(path)[8_000:24_000], clip_audio(path)[:16_000])
        if measure(piece).is_clear_speech
    )
    for _ in range(3):
        meter.sound(speech)
    assert len(measured) == 2
    assert not meter.not_speech
    # A tone is found in the second piece of it at the latest, and hides behind no speech then.
    meter.begin()
    tone = sine(1, 440)
    for audio in (speech, tone, tone):
        meter.sound(audio)
    assert len(measured) == 4
    assert meter.not_speech
