"""Checks on a container's bytes without decoding: format, copy protection, stated length.

Reads the file but changes nothing. FFmpeg, which `decode` uses, reports none of this.
"""

from __future__ import annotations

import struct

from stream.audio.files.views import Reader

HEAD = 65_536
"""Bytes inspected at the beginning of a file."""

MOOV_LIMIT = 16 * 1024 * 1024
"""Bytes of an MP4 index that are searched for signs of protection; the rest is ignored."""

CLUSTER = b"\x1fC\xb6u"
"""Id of the element of WebM and Matroska that holds sound and pictures (RFC 9559)."""

MAGIC = {
    b"RIFF": "WAV",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"FORM": "AIFF",
    b"caff": "CAF",
    b"\x30\x26\xb2\x75": "WMA",
    b"RIFX": "WAV",
    b"RF64": "WAV (RF64)",
    b"BW64": "WAV (BW64)",
    b"riff": "Wave64",
    b".snd": "AU",
    b"#!AMR": "AMR",
}
"""First bytes of known formats. MP4 is absent: its `ftyp` comes four bytes later."""

ASF_ENCRYPTED = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
"""GUIDs of the Content Encryption objects (ASF specification, section 3.14 and 3.15)."""


def kind_of(head: bytes) -> str | None:
    """Return the name of the format that a file with this head claims, or None if unknown."""
    if head[4:8] == b"ftyp":
        return "MP4"
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def is_protected(file: Reader, head: bytes) -> bool:
    """Return whether the audio is encrypted by copy protection (WMA and MP4)."""
    if head.startswith(b"\x30\x26\xb2\x75"):
        return any(mark in head for mark in ASF_ENCRYPTED)
    return head[4:8] == b"ftyp" and any(mark in _moov(file) for mark in (b"sinf", b"adrm"))


def flac_samples(head: bytes) -> int:
    """Return the samples that the STREAMINFO of a FLAC states, 0 if unknown (RFC 9639, 8.2)."""
    at = head.find(b"fLaC")
    return int.from_bytes(head[at + 21 : at + 26], "big") & ((1 << 36) - 1) if at >= 0 else 0


def _moov(file: Reader) -> bytes:
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
