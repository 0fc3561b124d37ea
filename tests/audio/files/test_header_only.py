"""Files that end with their header: bytes of each format, and files of real encoders."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from stream.audio.files.containers import CLUSTER, HEAD
from stream.audio.files.header_only import is_header_only
from stream.audio.files.undecodable import Undecodable
from tests.support.audio_files import record
from tests.support.decoding import worked
from tests.support.odd_files import second

EBML = b"\x1aE\xdf\xa3"
FTYP = struct.pack(">I4s8x", 16, b"ftyp")
AU = b".snd" + struct.pack(">IIIII", 32, 0, 3, 16_000, 1) + bytes(8)
CAF = b"caff" + bytes(4) + b"data" + struct.pack(">q", -1) + bytes(4)
WAVE64 = b"riff" + bytes(60) + b"data\xf3\xac" + bytes(18)


def box(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def ogg_page(position: int) -> bytes:
    return b"OggS" + struct.pack("<BBq", 0, 0, position) + bytes(13)


def test_a_webm_without_a_cluster_is_only_a_header() -> None:
    header = EBML + bytes(50)
    assert is_header_only(header, len(header))
    assert not is_header_only(header + CLUSTER, len(header) + 4)
    assert not is_header_only(header, len(header) + 1)


def test_an_ogg_whose_pages_have_the_position_0_is_only_a_header() -> None:
    header = ogg_page(0) * 2
    assert is_header_only(header, len(header))
    sound = header + ogg_page(960)
    assert not is_header_only(sound, len(sound))
    assert not is_header_only(b"OggS", 4)
    assert not is_header_only(b"x" + header, len(header) + 1)


@pytest.mark.parametrize(
    ("header", "sound"),
    [
        (FTYP + box(b"moov", bytes(20)) + box(b"mdat"), b""),
        (FTYP + box(b"moov"), box(b"mdat", b"x")),
        (FTYP, struct.pack(">I4sQ", 1, b"mdat", 17) + b"x"),
        (FTYP, struct.pack(">I4s", 0, b"mdat") + b"x"),
        (b"ID3" + bytes(40) + b"\xff\xfb" + bytes(30) + b"Info" + bytes(180), bytes(2_000)),
        (AU, b"x"),
        (CAF, bytes(2)),
        (b"#!AMR\n", b"x"),
        (b"#!AMR-WB\n", b"x"),
        (WAVE64, b"x"),
    ],
)
def test_a_header_is_told_from_a_file_with_sound(header: bytes, sound: bytes) -> None:
    assert is_header_only(header, len(header))
    if sound:
        assert not is_header_only(header + sound, len(header + sound))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no audio at all",
        b"ID3" + bytes(400),
        AU[:6],
        FTYP + struct.pack(">I4s", 4, b"moov"),
        AU + bytes(HEAD),
    ],
)
def test_other_files_are_no_headers(data: bytes) -> None:
    """Their faults are other ones: unknown contents, a damaged index, sound behind the head."""
    assert not is_header_only(data[:HEAD], len(data))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.mov", "aac"),
        ("a.au", "pcm_s16be"),
        ("a.caf", "pcm_s16be"),
        ("a.w64", "pcm_s16le"),
    ],
)
def test_a_recorder_that_was_stopped_at_once_is_not_called_damaged(
    name: str, codec: str, tmp_path: Path
) -> None:
    """An empty WAV was called so, and an empty M4A or MP3 still "damaged, export it again"."""
    content = record(tmp_path / name, second()[:0], codec).read_bytes()
    with pytest.raises(Undecodable, match=r"has an? \w+ header, but there is no sound") as refused:
        worked(content)
    assert refused.value.code == "empty_file"


def test_a_recording_of_a_moment_is_not_called_empty(tmp_path: Path) -> None:
    for name, codec in (("a.mp3", None), ("a.m4a", None), ("a.caf", "pcm_s16be")):
        content = record(tmp_path / name, second()[:1_600], codec).read_bytes()
        assert worked(content).pcm.any()
