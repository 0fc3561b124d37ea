"""Sound on channels that are not analysed, in live streams."""

from __future__ import annotations

import numpy as np
import pytest

from stream.analysis.sides import AFTER_S, SideMeter
from stream.types import Samples
from tests.support.utterances import RATE, speech

VOICE: Samples = (np.resize(speech(), 60 * RATE) / 32_768).astype(np.float32)
SILENCE: Samples = np.zeros_like(VOICE)


def voice_on(
    left: Samples,
    right: Samples,
    analysed: tuple[int, ...] = (0,),
    size: int = 1_280,
) -> int | None:
    meter = SideMeter(RATE, 2, analysed)
    both = np.stack([left, right])
    for start in range(0, both.shape[1], size):
        meter.add(both[:, start : start + size])
    return meter.voice_on


def test_a_voice_on_the_other_channel_only_is_noticed() -> None:
    """A producer had swapped the sides: its stream had no scores, and no one knew why."""
    assert voice_on(SILENCE, VOICE) == 1
    assert voice_on(VOICE, SILENCE, analysed=(1,)) == 0
    dither = np.random.default_rng(1).normal(0, 1e-4, len(VOICE)).astype(np.float32)
    assert voice_on(dither, VOICE) == 1


@pytest.mark.parametrize("size", [160, 16_000])
def test_it_takes_as_much_sound_at_any_chunking(size: int) -> None:
    short = int(AFTER_S * RATE * 0.8)
    assert voice_on(SILENCE[:short], VOICE[:short], size=size) is None
    assert voice_on(SILENCE, VOICE, size=size) == 1


def test_it_takes_20_s_of_sound_and_is_decided_then() -> None:
    meter = SideMeter(RATE, 3, (0,))
    second = np.zeros((3, RATE), np.float32)
    second[1] = 0.1
    for passed in range(1, 21):
        assert meter.voice_on is None
        meter.add(second)
        assert (meter.voice_on == 1) == (passed == int(AFTER_S))
    second[1], second[2] = 0, 0.1
    for _ in range(60):
        meter.add(second)
    assert meter.voice_on == 1


def test_a_call_is_not_suspected() -> None:
    assert voice_on(VOICE, VOICE) is None
    assert voice_on(VOICE, SILENCE) is None
    assert voice_on(SILENCE, SILENCE) is None
    assert voice_on(SILENCE, VOICE, analysed=(0, 1)) is None
    # A customer who only coughs once while the agent reads out the terms.
    cough = SILENCE.copy()
    cough[RATE : RATE + 4_000] = VOICE[2 * RATE : 2 * RATE + 4_000]
    assert voice_on(cough, VOICE) is None


def test_mono_is_not_measured() -> None:
    meter = SideMeter(RATE, 1, (0,))
    meter.add(SILENCE[None, :])
    assert meter.voice_on is None
