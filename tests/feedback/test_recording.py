"""Features of a recording's utterances: written beside the result, read, cut from its audio."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from stream.feedback.recording import read_utterance, write_utterances
from stream.result_files import NAMES
from stream.types import Features, Quality, Segment

QUALITY = Quality(-20.0, 0.0, None, None, 1.0)


def segment(channel: int, utterance: int, features: Features | None) -> Segment:
    start = 1000 * utterance - 100
    return Segment(
        channel, utterance, start, start + 800, "speech_end", 1.0, {}, {}, QUALITY, (), features
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    segments = [
        segment(0, 0, vectors[0]),
        segment(0, 1, None),
        segment(0, 2, vectors[1]),
        segment(1, 0, vectors[2]),
    ]
    write_utterances(tmp_path, ("fast", "1"), segments)
    with wave.open(str(tmp_path / "audio.wav"), "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        ramp = np.arange(2500, dtype="<i2")
        file.writeframes(np.stack([ramp, -ramp], axis=1).astype("<i2").tobytes())
    return tmp_path


def test_an_utterance_is_found_by_channel_and_number(folder: Path) -> None:
    found = read_utterance(folder, 0, 2)
    assert found is not None
    np.testing.assert_array_equal(found.features, [4, 5, 6, 7])
    assert (found.start, found.end, found.model) == (1900, 2700, ("fast", "1"))
    assert found.audio is None
    assert read_utterance(folder, 0, 1) is None, "nothing was scored in it"
    assert read_utterance(folder, 2, 0) is None


def test_audio_is_that_of_the_channel_and_the_span(folder: Path) -> None:
    audio = folder / "audio.wav"
    first, last = read_utterance(folder, 1, 0, audio), read_utterance(folder, 0, 2, audio)
    assert first is not None
    assert last is not None
    assert first.audio is not None
    assert last.audio is not None
    np.testing.assert_array_equal(first.audio, -np.arange(700))
    np.testing.assert_array_equal(last.audio, np.arange(1900, 2500))


def test_the_file_is_not_offered_for_download(folder: Path) -> None:
    assert not {path.name for path in folder.iterdir()} & set(NAMES)


def test_a_recording_without_speech_has_no_utterances(tmp_path: Path) -> None:
    write_utterances(tmp_path, ("fast", "1"), [])
    assert read_utterance(tmp_path, 0, 0) is None
