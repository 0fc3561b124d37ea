"""Resampling: positions, pitch and level are kept; chunking does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.audio.resample import Resampler
from stream.types import SAMPLE_RATE, Samples
from tests.support.signals import noise, sine

RATES = [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000]


def convert(audio: Samples, rate: int, sizes: list[int] | None = None) -> Samples:
    resampler = Resampler(rate)
    pieces, at, index = [], 0, 0
    while at < len(audio):
        size = sizes[index % len(sizes)] if sizes else len(audio)
        pieces.append(resampler.push(audio[at : at + size]))
        at, index = at + size, index + 1
    return np.concatenate([*pieces, resampler.drain()])


def inner(audio: Samples) -> Samples:
    """Cut off 0.1 s at both ends, where the filter's response reaches beyond the input."""
    return audio[SAMPLE_RATE // 10 : -SAMPLE_RATE // 10]


@pytest.mark.parametrize("rate", [*RATES, SAMPLE_RATE])
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5))
@settings(deadline=None, max_examples=10)
def test_any_chunking_gives_the_same_output_bit_for_bit(rate: int, sizes: list[int]) -> None:
    audio = noise(0.7, -20)
    assert convert(audio, rate, sizes).tobytes() == convert(audio, rate).tobytes()


@pytest.mark.parametrize("rate", RATES)
def test_one_sample_at_a_time_gives_the_same_output(rate: int) -> None:
    audio = noise(0.1, -20)
    assert convert(audio, rate, [1]).tobytes() == convert(audio, rate).tobytes()


@pytest.mark.parametrize("rate", [*RATES, SAMPLE_RATE, 8_001, 47_999])
@given(count=st.integers(0, 20_000))
@settings(deadline=None, max_examples=15)
def test_after_drain_the_output_is_as_long_as_the_input(rate: int, count: int) -> None:
    assert len(convert(noise(2)[:count], rate)) == count * SAMPLE_RATE // rate


@pytest.mark.parametrize("rate", [*RATES, SAMPLE_RATE])
@pytest.mark.parametrize("hz", [200, 1000, 3000])
def test_a_sine_keeps_frequency_level_and_position(rate: int, hz: int) -> None:
    """Output positions equal those of the input: the delay of the filter must be compensated."""
    got = inner(convert(sine(1, hz, -20, rate), rate))
    expected = inner(sine(1, hz, -20))
    assert np.abs(got - expected).max() < 2e-3
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got))))
    assert np.argmax(spectrum) * SAMPLE_RATE / len(got) == pytest.approx(hz, abs=2)
    level = 10 * np.log10(np.mean(np.square(got)))
    assert level == pytest.approx(-20, abs=0.05)


@pytest.mark.parametrize("rate", RATES)
def test_a_click_keeps_its_position(rate: int) -> None:
    audio = np.zeros(rate, np.float32)
    audio[rate // 2] = 1.0
    out = convert(audio, rate)
    assert abs(int(np.argmax(np.abs(out))) - SAMPLE_RATE // 2) <= 1


@pytest.mark.parametrize("hz", [9_000, 12_000, 15_000, 20_000])
def test_frequencies_above_8_khz_are_not_aliased(hz: int) -> None:
    out = inner(convert(sine(1, hz, -6, 48_000), 48_000))
    assert 10 * np.log10(np.mean(np.square(out)) + 1e-20) < -80


def test_audio_at_16_khz_is_unchanged() -> None:
    audio = noise(0.2)
    assert np.array_equal(convert(audio, SAMPLE_RATE, [333]), audio)


@pytest.mark.parametrize("rate", RATES)
def test_drain_resets_the_resampler(rate: int) -> None:
    """Audio after a hole must not depend on audio before it through the filter's memory."""
    resampler = Resampler(rate)
    first = np.concatenate([resampler.push(noise(0.3, seed=1)), resampler.drain()])
    second = np.concatenate([resampler.push(noise(0.3, seed=2)), resampler.drain()])
    assert np.array_equal(first, convert(noise(0.3, seed=1), rate))
    assert np.array_equal(second, convert(noise(0.3, seed=2), rate))


@pytest.mark.parametrize("rate", RATES)
def test_the_output_never_lags_more_than_an_eighth_of_a_second(rate: int) -> None:
    """The lag adds to the latency of every result, so it must not grow unnoticed."""
    resampler = Resampler(rate)
    received = pushed = 0
    audio, step = noise(4), rate // 50
    for at in range(0, len(audio) - step, step):
        pushed += step
        received += len(resampler.push(audio[at : at + step]))
        assert pushed / rate - received / SAMPLE_RATE < 0.125
    assert received > 0


@pytest.mark.parametrize("rate", [*RATES, SAMPLE_RATE])
@pytest.mark.parametrize("count", [1, 500, 3_200])
def test_so_many_samples_bring_the_output_and_2_ms_less_do_not(rate: int, count: int) -> None:
    """Audio is gathered until a window can be due; with too little, the call was for nothing."""
    resampler, audio = Resampler(rate), np.zeros(300_000, np.float32)
    at = 0
    for _ in range(5):
        needed = resampler.needed(count)
        slack = rate // 500
        before = len(resampler.push(audio[at : at + needed - slack])) if needed > slack else 0
        at += max(0, needed - slack)
        assert before < count
        received = before + len(resampler.push(audio[at : at + slack + 1]))
        at += slack + 1
        assert received >= count
