"""The shipped model on sounds that are not speech, and on speech, in the server's pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from stream.backends.embedded import load
from training.data import Array, read_manifest
from training.nonspeech import hear
from training.sounds import blips, hits

MANIFEST = Path(__file__).parents[1] / "fixtures" / "emodb" / "manifest.csv"
RATE = 16_000


def separate(make: Callable[[Generator, int], Array], seed: int) -> Array:
    """Return six seconds of half-second sounds with pauses between them."""
    rng = np.random.default_rng([9, seed])
    audio = np.zeros(6 * RATE, np.float32)
    for at in range(RATE // 2, len(audio) - RATE, RATE * 5 // 4):
        audio[at : at + RATE // 2] = make(rng, RATE // 2) * np.float32(0.1)
    return audio


@pytest.mark.parametrize("make", [hits, blips], ids=lambda make: make.__name__)
def test_short_sounds_are_no_emotions(make: Callable[[Generator, int], Array]) -> None:
    """A snare drum was called sad nine times in 30 s: `unknown` was learnt from long sounds."""
    heard = hear(load(), [separate(make, seed) for seed in range(8)])
    assert len(heard) > 20
    assert heard.false_emotions <= 1
    assert heard.count("unknown") > 0.9 * len(heard)


def test_short_speech_stays_speech() -> None:
    """Words that are as short as those sounds must not become `unknown` with them."""
    words = []
    for clip in read_manifest(MANIFEST):
        middle = len(clip.audio) // 2
        word = clip.audio[max(0, middle - RATE // 4) : middle + RATE // 4]
        words.append(np.concatenate([np.zeros(RATE // 2, np.float32), word]))
    heard = hear(load(), words)
    assert len(heard) >= 6
    assert heard.count("unknown") <= 1
