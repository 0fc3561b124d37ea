"""Likely causes of audio that arrives at another speed than real time."""

from __future__ import annotations

import pytest

from stream.audio.speed import causes
from stream.types import AudioFormat

PHONE = AudioFormat("mulaw", 8_000, 1)
MONO = AudioFormat("linear16", 16_000, 1)


@pytest.mark.parametrize(
    ("audio", "speed", "cause"),
    [
        (MONO, 3.0, "sample_rate=48000"),
        (MONO, 2.76, "sample_rate=44100"),
        (MONO, 0.5, "sample_rate=8000"),
        (MONO, 2.0, "channels=2"),
        (MONO, 1.5, "24-bit"),
        (MONO, 6.0, "sample_rate=96000"),
        (MONO, 12.0, "sample_rate=192000"),
        (PHONE, 2.0, "encoding=linear16"),
        (AudioFormat("linear16", 48_000, 1), 0.919, "sample_rate=44100"),
        (AudioFormat("linear16", 16_000, 2), 0.5, "channels=1"),
        (AudioFormat("f32le", 16_000, 1), 0.5, "encoding=linear16"),
    ],
)
def test_a_speed_names_its_likely_causes(audio: AudioFormat, speed: float, cause: str) -> None:
    assert cause in " ".join(causes(audio, speed))


@pytest.mark.parametrize("speed", [1.0, 1.02, 10.0, 0.9, 20.0])
def test_other_speeds_have_no_cause(speed: float) -> None:
    assert causes(MONO, speed) == []
