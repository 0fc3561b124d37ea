"""Levels of a recording: mixing of many channels, audio above full scale, silent channels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.audio.files.survey import Levels, Survey, sides
from stream.audio.samples import to_float
from tests.support.decoding import worked
from tests.support.odd_files import second, wav
from tests.support.signals import noise

VOICE = (second() / 32_768).astype(np.float32)


def surveyed(columns: NDArray[np.float32], size: int = 1_000) -> Levels:
    meter = Survey(16_000, columns.shape[1])
    for start in range(0, len(columns), size):
        meter.add(columns[start : start + size])
    return meter.levels()


@pytest.mark.parametrize("channels", [3, 6, 9, 16, 60, 64, 65, 255])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_every_channel_is_heard(channels: int, kind: type[np.generic]) -> None:
    """Three channels with the voice on the third were mixed as for a cinema: "no speech found".

    Nine and more had no layout, and the file was called damaged or malicious.
    """
    for number in {0, channels // 2, channels - 1}:
        columns = np.zeros((len(VOICE), channels), kind)
        columns[:, number] = second() if kind is np.int16 else VOICE
        result = worked(wav(columns))
        assert result.info["channels"] == channels
        assert result.channels == 1
        assert np.abs(result.pcm[:, 0] - second().astype(int)).max() <= 2


def test_two_voices_on_many_channels_are_both_heard() -> None:
    columns = np.zeros((len(VOICE), 5), np.float32)
    columns[: len(VOICE) // 2, 1] = VOICE[: len(VOICE) // 2]
    columns[len(VOICE) // 2 :, 4] = VOICE[len(VOICE) // 2 :]
    levels = surveyed(columns)
    mix = columns.mean(axis=1) * levels.mix_gain
    assert np.corrcoef(mix, VOICE)[0, 1] > 0.99
    assert 0.8 < np.abs(mix).max() / np.abs(VOICE).max() < 2


def test_equal_channels_keep_their_level() -> None:
    assert surveyed(np.repeat(VOICE[:, None], 6, axis=1)).mix_gain == pytest.approx(1)


PAUSED = np.concatenate([np.zeros(8_000, np.float32), VOICE, np.zeros(8_000, np.float32)])


@pytest.mark.parametrize("loudest", [-45, -60, -75])
@pytest.mark.parametrize("offset", [0.0, 0.01])
def test_a_faint_but_clean_recording_is_raised(loudest: float, offset: float) -> None:
    """A recording in 24 bits had its voice at -75 dBFS: "no speech found"."""
    own = max(surveyed(PAUSED[:, None]).levels_dbfs)
    faint = PAUSED * np.float32(10 ** ((loudest - own) / 20))
    levels = surveyed((faint + np.float32(offset))[:, None])
    assert levels.levels_dbfs[0] == pytest.approx(loudest, abs=0.5)
    raised = max(surveyed((faint * np.float32(levels.gain))[:, None]).levels_dbfs)
    assert raised == pytest.approx(-20, abs=0.5) or levels.peak * levels.gain == pytest.approx(0.99)
    assert levels.gain > 1


def test_faint_speech_without_pauses_is_raised() -> None:
    """One sentence, cut tightly, has hardly a pause: "no speech found".

    In 535 sentences of EmoDB a tenth of the short parts is at least 8 dB below the loudest part; in
    noise of a steady level it is 4 dB at most.
    """
    parts = np.repeat(np.tile([0.0, 0.0, 0.0, -10.0], 10), 1_600)
    voice = (noise(4, -60) * 10 ** (parts / 20)).astype(np.float32)
    assert surveyed(voice[:, None], 800).gain > 10


def test_raising_never_exceeds_full_scale() -> None:
    clicked = PAUSED * np.float32(1e-3)
    clicked[100] = 0.5
    levels = surveyed(clicked[:, None])
    assert levels.gain == pytest.approx(0.99 / 0.5)


@pytest.mark.parametrize("dbfs", [-45, -55, -70])
def test_faint_noise_is_not_raised(dbfs: float) -> None:
    """A muted line has noise only; raised, it would be taken for speech."""
    assert surveyed(noise(4, dbfs)[:, None]).gain == 1


def test_a_recording_of_usual_level_and_one_of_rounding_noise_are_left_alone() -> None:
    own = max(surveyed(PAUSED[:, None]).levels_dbfs)
    for level in (-38, -88):
        assert surveyed((PAUSED * np.float32(10 ** ((level - own) / 20)))[:, None]).gain == 1
    assert surveyed(np.zeros((16_000, 2), np.float32)).gain == 1
    assert surveyed(np.zeros((0, 1), np.float32)).gain == 1


def test_a_silent_channel_with_an_offset_is_silent() -> None:
    columns = np.stack([VOICE, np.full(len(VOICE), 0.05, np.float32)], axis=1)
    assert sides(surveyed(columns).levels_dbfs) == ([1], [0])


def test_one_voice_in_stereo_is_analysed_once_on_its_better_channel() -> None:
    """A microphone recorded as stereo was a call of two people, of whom one was left out."""
    quiet, loud = noise(len(PAUSED) / 16_000, -70, 1), noise(len(PAUSED) / 16_000, -40, 2)
    voice = PAUSED * np.float32(0.5)
    columns = np.stack([voice * np.float32(0.8) + loud, voice + quiet], axis=1)
    levels = surveyed(np.tile(columns, (3, 1)))
    assert (levels.alike, levels.best) == (True, 1)
    result = worked(wav((np.tile(columns, (3, 1)) * 32_767).astype(np.int16)))
    assert result.channels == 1
    expected = np.tile(voice + quiet, 3) * 32_767
    assert np.abs(result.pcm[:, 0] - expected).max() <= 2


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [4.0, 30.0])
def test_audio_above_full_scale_is_lowered_and_not_clipped(
    kind: type[np.floating], factor: float
) -> None:
    """A float WAV above full scale was clipped by the server, which then called it clipped."""
    loud = (VOICE / np.abs(VOICE).max() * factor).astype(kind)
    result = worked(wav(loud))
    expected = VOICE / np.abs(VOICE).max() * 0.99 * 32_768
    assert np.abs(result.pcm[:, 0] - expected).max() <= 1
    assert result.findings.gain_db == pytest.approx(20 * np.log10(0.99 / factor), abs=0.1)


def test_audio_within_full_scale_is_not_changed() -> None:
    result = worked(wav(second()))
    assert np.array_equal(result.pcm[:, 0], second())
    assert result.findings.gain_db == 0


def test_samples_that_are_no_numbers_become_silence() -> None:
    broken = VOICE.copy()
    broken[100:200] = np.nan
    broken[300] = np.inf
    result = worked(wav(broken))
    assert not result.pcm[100:200].any()
    assert np.abs(result.pcm[201:299, 0] - second()[201:299]).max() <= 1


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("u8", np.array([[0, 128, 255]], np.uint8), [-1, 0, 127 / 128]),
        ("s16p", np.array([[-32_768, 0, 32_767]], np.int16), [-1, 0, 32_767 / 32_768]),
        ("s32", np.array([[-(2**31), 0, 2**30]], np.int32), [-1, 0, 0.5]),
        ("dblp", np.array([[-2.0, 0.0, 0.5]]), [-2, 0, 0.5]),
    ],
)
def test_sample_formats_are_scaled(
    name: str, array: NDArray[np.generic], expected: list[float]
) -> None:
    assert to_float(array, name, 1)[:, 0].tolist() == expected


def test_silent_channels_are_found() -> None:
    right = np.stack([VOICE * 0, VOICE], axis=1)
    assert sides(surveyed(right).levels_dbfs) == ([0], [1])
    assert sides(surveyed(right * 0).levels_dbfs) == ([0, 1], [])
    # A click is louder than silence, but 0.4 s of it are not.
    right[100, 0] = 0.01
    assert sides(surveyed(right).levels_dbfs) == ([0], [1])


def test_the_survey_does_not_depend_on_the_size_of_blocks() -> None:
    columns = np.stack([VOICE, np.roll(VOICE, 500)], axis=1)
    one, other = surveyed(columns, 160), surveyed(columns, 16_000)
    assert one.seconds == other.seconds == 1.0
    assert one.peak == other.peak
    assert one.levels_dbfs == pytest.approx(other.levels_dbfs, abs=3)
    assert not one.alike
    assert surveyed(np.stack([VOICE, VOICE], axis=1)).alike
