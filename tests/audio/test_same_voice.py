"""Comparison of two channels: one voice in stereo, two people, two people with crosstalk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.audio.codecs import PcmDecoder
from stream.audio.same_voice import ChannelComparison
from stream.types import SAMPLE_RATE, AudioFormat, Samples
from tests.support.signals import (
    amplitude,
    at_rate,
    clip_audio,
    clips,
    encode_mulaw,
    int16,
    noise,
    silence,
)


def spoken(numbers: Sequence[int], turns: Sequence[bool]) -> Samples:
    """Return clips at -24 dBFS where it is the speaker's turn, and silence of equal length else."""
    pieces = []
    for number, own in zip(numbers, turns, strict=True):
        clip = clip_audio(clips()[number % len(clips())])
        level = amplitude(-24) / float(np.sqrt(np.square(clip).mean()))
        pieces += [clip * np.float32(level * own), silence(0.3)]
    return np.concatenate(pieces)


CALL = range(6)
VOICE = spoken(CALL, [True] * 6)
FIRST = spoken(CALL, [True, False] * 3)
SECOND = spoken(CALL, [False, True] * 3)


def compared(left: Samples, right: Samples, rate: int = SAMPLE_RATE) -> ChannelComparison:
    comparison = ChannelComparison(rate)
    comparison.push(np.stack([left, right]).astype(np.float32))
    return comparison


def noisy(audio: Samples, dbfs: float, seed: int) -> Samples:
    return audio + noise(len(audio) / SAMPLE_RATE, dbfs, seed)[: len(audio)]


def telephone(audio: Samples) -> Samples:
    """Return the audio after 8 kHz mu-law, at 16 kHz again."""
    narrow = at_rate(audio[: len(audio) // 4 * 4], 8_000)
    decoded = PcmDecoder(AudioFormat("mulaw", 8_000)).decode(encode_mulaw(int16(narrow)).tobytes())
    wide = at_rate(decoded[0], SAMPLE_RATE, 8_000)
    return np.concatenate([wide, silence(1)])[: len(audio)]


ONE_VOICE = {
    "equal": (VOICE, VOICE),
    "other noise": (noisy(VOICE, -45, 1), noisy(VOICE, -45, 2)),
    "much noise": (noisy(VOICE, -34, 1), noisy(VOICE, -34, 2)),
    "noise on one": (VOICE, noisy(VOICE, -36, 2)),
    "other level": (VOICE, VOICE * np.float32(0.45)),
    "panned by 9 dB": (noisy(VOICE, -55, 1), noisy(VOICE * np.float32(amplitude(-9)), -55, 2)),
    "other codec": (VOICE, telephone(VOICE)),
    "delay of 6 ms": (VOICE, np.roll(VOICE, 96)),
    "delay of -6 ms": (VOICE, np.roll(VOICE, -96)),
    "opposite phase": (VOICE, -VOICE),
    "all of it": (
        noisy(VOICE, -50, 1),
        noisy(telephone(np.roll(VOICE, 50)) * np.float32(0.6), -50, 2),
    ),
    "faint": (VOICE * np.float32(0.003), VOICE * np.float32(0.003)),
}


@pytest.mark.parametrize("kind", ONE_VOICE)
def test_one_voice_on_two_channels_is_found(kind: str) -> None:
    """One microphone recorded as stereo was taken for customer and agent: one channel was left out
    by policy, and the other was a call with one silent side."""
    left, right = ONE_VOICE[kind]
    assert compared(left, right).same()
    assert compared(right, left).same()


@pytest.mark.parametrize("line", [-90, -50])
@pytest.mark.parametrize("crosstalk", [None, -20, -12, -9, -6])
def test_two_people_are_not_one_voice_even_if_each_is_heard_on_the_other_side(
    crosstalk: float | None, line: float
) -> None:
    gain = np.float32(0 if crosstalk is None else amplitude(crosstalk))
    left, right = FIRST + gain * SECOND, SECOND + gain * FIRST
    comparison = compared(noisy(left, line, 1), noisy(right, line, 2))
    assert comparison.counted >= 10
    assert not comparison.same()


@pytest.mark.parametrize("line", [-60, -45])
@pytest.mark.parametrize("crosstalk", [-20, -12])
def test_a_side_that_only_lets_the_other_through_is_not_the_same_voice(
    crosstalk: float, line: float
) -> None:
    """A call is not answered yet: that side has only the caller's own voice, 12 dB lower."""
    echo = VOICE * np.float32(amplitude(crosstalk))
    assert not compared(noisy(VOICE, line, 1), noisy(echo, line, 2)).same()


def test_two_people_at_the_same_time_are_not_one_voice() -> None:
    length = min(len(VOICE), len(spoken(range(3, 9), [True] * 6)))
    assert not compared(VOICE[:length], spoken(range(3, 9), [True] * 6)[:length]).same()


def test_a_voice_on_one_channel_only_is_not_on_both() -> None:
    assert not compared(VOICE, silence(len(VOICE) / SAMPLE_RATE)).same()
    assert not compared(silence(len(VOICE) / SAMPLE_RATE), VOICE).same()


def test_independent_noise_on_both_channels_is_not_the_same_voice() -> None:
    assert not compared(noise(10, -30, 1), noise(10, -30, 2)).same()


def test_short_channels_are_the_same_only_if_they_are_equal() -> None:
    assert compared(VOICE[:4000], VOICE[:4000]).same()
    assert not compared(VOICE[:4000], noisy(VOICE[:4000], -40, 1)).same()


def test_a_stricter_limit_refuses_other_levels() -> None:
    comparison = compared(VOICE, VOICE * np.float32(0.5))
    assert comparison.same()
    assert not comparison.same(most_db=4.0)


def test_the_better_channel_is_that_with_less_noise() -> None:
    clean, bad = noisy(VOICE, -70, 1), noisy(VOICE, -40, 2)
    assert compared(clean, bad).better == 0
    assert compared(bad, clean).better == 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_any_rate_is_compared(rate: int) -> None:
    voice, first, second = (at_rate(audio, rate) for audio in (VOICE, FIRST, SECOND))
    assert compared(voice, np.roll(voice, rate // 200), rate).same()
    assert not compared(first, second, rate).same()


@given(sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=6))
@settings(deadline=None, max_examples=15)
def test_any_chunking_gives_the_same_answer(sizes: list[int]) -> None:
    audio = np.stack([noisy(VOICE, -45, 1), noisy(VOICE, -45, 2)])[:, : 4 * SAMPLE_RATE]
    at_once, by_chunk = ChannelComparison(SAMPLE_RATE), ChannelComparison(SAMPLE_RATE)
    at_once.push(audio)
    at = index = 0
    while at < audio.shape[1]:
        size = sizes[index % len(sizes)]
        missing = by_chunk.missing
        assert by_chunk.push(audio[:, at : at + size]) == (
            audio[:, at : at + size].shape[1] >= missing
        )
        at, index = at + size, index + 1
    assert by_chunk._blocks == at_once._blocks
