"""Utterances of recordings as the server finds them: the examples of speech and sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data import Array, read_manifest
from training.heard import Heard, dips, fragment, hear, is_within, spoken

MANIFEST = Path(__file__).parents[1] / "fixtures" / "emodb" / "manifest.csv"


def level(audio: Array) -> Array:
    """Return one feature of each frame: its largest sample."""
    frames = np.abs(audio[: len(audio) // 320 * 320]).reshape(-1, 320)
    return np.asarray(frames.max(axis=1, keepdims=True), np.float32)


def test_hears_an_utterance_between_pauses_and_the_mean_of_its_frames() -> None:
    clip = read_manifest(MANIFEST)[0]
    pause = np.zeros(16_000, np.float32)
    (heard,) = hear(level, 1, np.concatenate([pause, clip.audio]))
    assert 16_000 - 8_000 < heard.start < 16_000 + 8_000
    assert heard.end == pytest.approx(16_000 + len(clip.audio), abs=8_000)
    assert heard.features.shape == (1,)
    assert 0.01 < heard.features[0] < 1


def test_hears_nothing_in_silence() -> None:
    assert hear(level, 1, np.zeros(48_000, np.float32)) == []


def test_a_fragment_is_a_part_of_the_speech_that_fades() -> None:
    clip = read_manifest(MANIFEST)[0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        piece = fragment(rng, clip.audio)
        assert 0 < len(piece) <= len(clip.audio)
        assert abs(piece[0]) < 1e-6
        assert abs(piece[-1]) < 1e-6
    assert dips(clip.audio)[0] == 0
    assert dips(clip.audio)[-1] == len(clip.audio)


def test_noise_around_a_clip_does_not_count_as_speech() -> None:
    """The voice detector also finds the noise that was added; half a label must not be learnt."""
    clip = read_manifest(MANIFEST)[0]
    audio, start, end = spoken(np.random.default_rng(0), clip.audio)
    assert 0 < start < end <= len(audio)
    assert np.isfinite(audio).all()
    features = np.zeros(1, np.float32)
    assert is_within(Heard(start, end, features), start, end)
    assert is_within(Heard(start - 100, end, features), start, end)
    assert not is_within(Heard(end, end + 1_000, features), start, end)
