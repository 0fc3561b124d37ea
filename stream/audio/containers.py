"""Checks on a container's bytes without decoding: format, copy protection, truncation.

Reads the file but changes nothing. FFmpeg, which `stream.audio.decode` uses, reports none of this.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

HEAD = 65_536
"""Bytes inspected at the beginning of a file, and at the end of an Ogg."""

MOOV_LIMIT = 16 * 1024 * 1024
"""Bytes of an MP4 index that are searched for signs of protection; the rest is ignored."""

MAGIC = {
    b"RIFF": "WAV",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"FORM": "AIFF",
    b"caff": "CAF",
    b"\x30\x26\xb2\x75": "WMA",
}
"""First bytes of known formats. MP4 is absent: its `ftyp` comes four bytes later."""

ASF_ENCRYPTED = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
"""GUIDs of the Content Encryption objects (ASF specification, section 3.14 and 3.15)."""

EXACT_LENGTH = ("flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "aiff", "caf", "w64")
"""Containers whose header states the length; for others FFmpeg estimates it from the bit rate."""

SLACK_S, SLACK = 0.5, 0.02
"""Seconds plus share of the stated length by which an intact recording may be shorter."""


def kind_of(head: bytes) -> str | None:
    """Return the name of the format that a file with this head claims, or None if unknown."""
    if head[4:8] == b"ftyp":
        return "MP4"
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def is_protected(file: BinaryIO, head: bytes) -> bool:
    """Return whether the audio is encrypted by copy protection (WMA and MP4)."""
    if head.startswith(b"\x30\x26\xb2\x75"):
        return any(mark in head for mark in ASF_ENCRYPTED)
    return head[4:8] == b"ftyp" and any(mark in _moov(file) for mark in (b"sinf", b"adrm"))


def is_truncated(
    file: BinaryIO, head: bytes, container: str, decoded_s: float, length_s: float | None
) -> bool:
    """Return whether the file is shorter than it states.

    `decoded_s` is the length of the decoded audio, `length_s` the length in the header, in seconds.
    """
    if container == "wav":
        return _is_wav_truncated(file)
    if container == "ogg":
        return _is_ogg_truncated(file)
    exact = container in EXACT_LENGTH or (
        container == "mp3" and (b"Xing" in head or b"Info" in head)
    )
    return exact and length_s is not None and decoded_s < length_s * (1 - SLACK) - SLACK_S


def _moov(file: BinaryIO) -> bytes:
    """Return the index of an MP4, or b"" (ISO 14496-12: boxes of size, name, contents).

    A truncated file yields the part of the index that it contains.
    """
    file_size, at = file.seek(0, 2), 0
    for _ in range(1000):
        if at >= file_size:  # a box may state any size, even one that no file offset can hold
            break
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            break
        size, name = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if name == b"moov":
            file.seek(at)
            return file.read(min(size, MOOV_LIMIT) if size else MOOV_LIMIT)
        if size < 8:
            break
        at += size
    return b""


def _is_wav_truncated(file: BinaryIO) -> bool:
    """Return whether a WAV's data chunk states more bytes than the file has.

    Sizes of 0 and from 0x7FFFFFFF on are placeholders of live recorders and do not count.
    """
    file_size = file.seek(0, 2)
    at = 12
    for _ in range(1000):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return False
        name, size = struct.unpack("<4sI", header)
        at += 8
        if name == b"data":
            return bool(0 < size < 0x7FFFFFFF and at + size > file_size)
        at += size + size % 2
    return False


def _is_ogg_truncated(file: BinaryIO) -> bool:
    """Return whether an Ogg's last page lacks the end-of-stream flag (RFC 3533, section 6)."""
    file_size = file.seek(0, 2)
    file.seek(max(0, file_size - HEAD))
    tail = file.read(HEAD)
    at = tail.rfind(b"OggS")
    return at < 0 or len(tail) < at + 6 or not tail[at + 5] & 4
