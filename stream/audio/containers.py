"""What a container's bytes say without being decoded: its kind, whether it is protected or cut off.

Pure but for reading; FFmpeg, which is behind `stream.audio.decode`, tells none of this.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

HEAD = 65_536
MOOV_MOST = 16 * 1024 * 1024
"""An index of an MP4 beyond this is not searched for signs of protection."""

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
"""How files of known kinds begin; MP4 says `ftyp` four bytes later."""

ASF_ENCRYPTED = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
"""GUIDs of the Content Encryption objects (ASF specification, section 3.14 and 3.15)."""

TELLING = ("flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "aiff", "caf", "w64")
"""Containers whose headers know the length; others are guessed from the bit rate."""

SLACK_S, SLACK = 0.5, 0.02
"""A recording is truncated when it is shorter than its header says by more than this."""


def kind_of(head: bytes) -> str | None:
    """What a file that begins so claims to be; None for nothing that is known."""
    if head[4:8] == b"ftyp":
        return "MP4"
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def protected(file: BinaryIO, head: bytes) -> bool:
    """Whether its sound is encrypted, as shops sell it (WMA and MP4)."""
    if head.startswith(b"\x30\x26\xb2\x75"):
        return any(mark in head for mark in ASF_ENCRYPTED)
    return head[4:8] == b"ftyp" and any(mark in _moov(file) for mark in (b"sinf", b"adrm"))


def ends_early(
    file: BinaryIO, head: bytes, container: str, heard_s: float, length_s: float | None
) -> bool:
    """Whether less is there than the file says; `heard_s` were decoded, `length_s` are promised."""
    if container == "wav":
        return _wav_lacks(file)
    if container == "ogg":
        return _ogg_lacks(file)
    told = container in TELLING or (container == "mp3" and (b"Xing" in head or b"Info" in head))
    return told and length_s is not None and heard_s < length_s * (1 - SLACK) - SLACK_S


def _moov(file: BinaryIO) -> bytes:
    """An MP4's index, as far as it is there (ISO 14496-12: boxes of size, name, contents)."""
    at = 0
    for _ in range(1000):
        file.seek(at)
        start = file.read(16)
        if len(start) < 8:
            break
        size, name = struct.unpack(">I4s", start[:8])
        if size == 1 and len(start) == 16:
            size = struct.unpack(">Q", start[8:])[0]
        if name == b"moov":
            file.seek(at)
            return file.read(min(size, MOOV_MOST) if size else MOOV_MOST)
        if size < 8:
            break
        at += size
    return b""


def _wav_lacks(file: BinaryIO) -> bool:
    """Whether a WAV's data chunk promises more than there is (that of a live one may not)."""
    whole = file.seek(0, 2)
    at = 12
    for _ in range(1000):
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            return False
        name, size = struct.unpack("<4sI", start)
        at += 8
        if name == b"data":
            return bool(0 < size < 0x7FFFFFFF and at + size > whole)
        at += size + size % 2
    return False


def _ogg_lacks(file: BinaryIO) -> bool:
    """Whether an Ogg's last page is not marked as the last (RFC 3533, section 6)."""
    whole = file.seek(0, 2)
    file.seek(max(0, whole - HEAD))
    tail = file.read(HEAD)
    at = tail.rfind(b"OggS")
    return at < 0 or len(tail) < at + 6 or not tail[at + 5] & 4
