"""Checks on the bytes of containers, without decoding."""

from __future__ import annotations

import io
import struct

import pytest

from stream.audio.files.containers import (
    ASF_ENCRYPTED,
    flac_samples,
    is_protected,
    kind_of,
)

ASF = b"\x30\x26\xb2\x75"
EBML = b"\x1aE\xdf\xa3"
FTYP = struct.pack(">I4s8x", 16, b"ftyp")


def box(name: bytes, body: bytes, wide: bool = False) -> bytes:
    """Return a box of an MP4, with its size in 4 bytes, or in 8 if `wide`."""
    if wide:
        return struct.pack(">I4sQ", 1, name, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), name) + body


def protected(data: bytes) -> bool:
    return is_protected(io.BytesIO(data), data)


def ogg_page(position: int) -> bytes:
    return b"OggS" + struct.pack("<BBq", 0, 0, position) + bytes(13)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF....WAVE", "WAV"),
        (b"OggS", "Ogg"),
        (b"fLaC", "FLAC"),
        (b"ID3", "MP3"),
        (EBML, "WebM or Matroska"),
        (b"FORM", "AIFF"),
        (b"caff", "CAF"),
        (ASF, "WMA"),
        (FTYP, "MP4"),
        (b"ftyp", None),
        (b"RIF", None),
        (b"", None),
    ],
)
def test_the_kind_is_what_the_first_bytes_claim(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


@pytest.mark.parametrize("mark", ASF_ENCRYPTED)
def test_a_wma_with_an_encryption_object_is_protected(mark: bytes) -> None:
    assert protected(ASF + bytes(100) + mark)
    assert not protected(ASF + bytes(100) + mark[:-1])
    assert not protected(bytes(4) + mark)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mark", [b"sinf", b"adrm"])
def test_an_mp4_is_protected_by_a_mark_in_its_index_wherever_that_lies(
    mark: bytes, wide: bool
) -> None:
    media = box(b"mdat", bytes(1_000), wide)
    assert protected(FTYP + media + box(b"moov", b"...." + mark, wide))
    assert protected(FTYP + box(b"moov", b"...." + mark, wide) + media)
    assert not protected(FTYP + box(b"mdat", mark) + box(b"moov", bytes(8), wide))
    assert not protected(FTYP + box(b"moov", bytes(8), wide) + box(b"free", mark))


def test_an_index_that_runs_to_the_end_of_the_file_is_read() -> None:
    """A size of 0 means: to the end of the file (ISO 14496-12, 4.2)."""
    assert protected(FTYP + struct.pack(">I4s", 0, b"moov") + b"sinf")


@pytest.mark.parametrize("size", [0, 2, 7, 0xFFFFFFFF])
def test_a_box_with_an_impossible_size_ends_the_search(size: int) -> None:
    assert not protected(FTYP + struct.pack(">I4s", size, b"free") + box(b"moov", b"sinf"))


def test_a_truncated_index_is_searched_as_far_as_it_goes() -> None:
    assert protected(FTYP + box(b"moov", b"sinf" + bytes(1_000))[:100])
    assert not protected(FTYP + b"\0\0\0")


def test_a_flac_states_its_samples_in_36_bits() -> None:
    streaminfo = b"fLaC" + b"\xff" * 17 + bytes([0xFA, 0, 0, 0, 5]) + b"\xff" * 16
    assert flac_samples(streaminfo) == (0x0A << 32) + 5
    assert flac_samples(b"ID3" + bytes(40) + streaminfo) == (0x0A << 32) + 5
    assert flac_samples(bytes(40)) == 0
