"""Lengths of WAV and AIFF files: the sound that is there counts, not the size in the header."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from stream.audio.files.chunks import Layout, layout
from stream.audio.files.decode import Source
from tests.support.audio_files import record
from tests.support.odd_files import Pcm, second, wav

SOUND = second()
LENGTH = 2 * len(SOUND)


def found(content: bytes) -> Layout:
    result = layout(io.BytesIO(content), len(content))
    assert result is not None
    return result


def decoded(content: bytes) -> tuple[Pcm, bool]:
    """Return the PCM of a file, and whether it is said to be damaged."""
    with Source(io.BytesIO(content)) as source:
        pcm = np.concatenate(list(source.pcm(source.info.sample_rate, 1)))[:, 0]
        return pcm, source.damaged


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param(0, id="zero"),
        pytest.param(0xFFFF_FFFF, id="FFmpeg's pipe"),
        pytest.param(0x7FFF_FFFF, id="libsndfile"),
        pytest.param(0x7FFF_F000, id="SoX's pipe"),
        pytest.param(0x8000_0000, id="arecord"),
        pytest.param(0xFFFF_FFFF - 44, id="mpg123"),
        pytest.param(LENGTH + 8, id="with the chunk's header"),
        pytest.param(LENGTH + 36, id="with the form's header"),
        pytest.param(LENGTH + 44, id="with the file's header"),
        pytest.param(LENGTH // 2, id="half"),
        pytest.param(LENGTH - 2000, id="a little less"),
        pytest.param(1000, id="the first buffer"),
    ],
)
@pytest.mark.parametrize("consistent", [True, False])
def test_a_made_up_length_is_no_damage_and_all_sound_is_taken(
    stated: int, consistent: bool
) -> None:
    """Recorders that write to a pipe were told that the transfer broke; others lost their half."""
    riff = min(0xFFFF_FFFF, stated + 36) if consistent else None
    pcm, damaged = decoded(wav(SOUND, data_size=stated, riff_size=riff))
    assert np.array_equal(pcm, SOUND)
    assert not damaged


@pytest.mark.parametrize("share", [0.97, 0.5, 0.1])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "mulaw.wav", "float.wav"])
def test_a_file_that_was_cut_is_damaged(name: str, share: float, tmp_path: Path) -> None:
    content = record(tmp_path / name).read_bytes()
    _, damaged = decoded(content[: int(len(content) * share)])
    assert damaged


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST\x04\x00\x00\x00INFO",
        b"LIST\x05\x00\x00\x00INFOx\x00" + b"bext\x02\x00\x00\x00ab",
        b"TAG" + bytes(125),
        b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10),
        bytes(4096),
    ],
)
def test_chunks_tags_and_padding_behind_the_sound_are_not_sound(behind: bytes) -> None:
    pcm, damaged = decoded(wav(SOUND, behind=behind))
    assert np.array_equal(pcm, SOUND)
    assert not damaged


@pytest.mark.parametrize("between", [b"", b"LIST\x04\x00\x00\x00INFO"])
def test_joined_files_are_one_recording(between: bytes) -> None:
    """`cat a.wav b.wav`: the second file was left out without a word."""
    other = second(1)
    joined = wav(SOUND, behind=between) + wav(other) + wav(SOUND)
    pcm, damaged = decoded(joined)
    assert np.array_equal(pcm, np.concatenate([SOUND, other, SOUND]))
    assert not damaged


def test_a_joined_file_in_another_format_is_reported() -> None:
    other = wav(SOUND, 8_000)
    result = found(wav(SOUND) + other)
    assert result.left_out == len(other)
    pcm, _ = decoded(wav(SOUND) + other)
    assert np.array_equal(pcm, SOUND)


def test_a_correct_file_is_read_as_it_is() -> None:
    content = wav(SOUND)
    assert found(content) == Layout(content[:44], ((44, 44 + LENGTH),))
    assert layout(io.BytesIO(b"OggS" + bytes(100)), 104) is None


def test_a_file_of_many_chunks_ends() -> None:
    """A chunk that says it has no bytes is followed by the next; the number of both is bounded."""
    content = wav(SOUND, before=b"JUNK\x00\x00\x00\x00" * 200_000)
    assert layout(io.BytesIO(content), len(content)) is None
    assert found(wav(SOUND) * 300).sound[299][0] > 0


@pytest.mark.parametrize("behind", [b"", b"fmt \x02\x00\x00\x00ab"])
def test_a_file_without_a_format_is_read_no_further(behind: bytes) -> None:
    """Found by fuzzing: the chunk `fmt ` was missing in front of the sound, or too short."""
    content = wav(SOUND, behind=behind).replace(b"fmt ", b"gmt ", 1)
    assert found(content).header is None
