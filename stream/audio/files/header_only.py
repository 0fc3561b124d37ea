"""Recognition of files that end with their header, and so hold no sound. Pure.

FFmpeg opens few of them, and reports all others as damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from stream.audio.files.containers import CLUSTER, kind_of

MP3_FRAME = 1_441
"""Bytes of the longest MP3 frame."""
MP3_TABLES = (b"Xing", b"Info", b"VBRI")
"""Names in a first frame that describes the other frames, and is silent itself."""
WAVE64_CHUNK = 24
"""Bytes before the contents of a Wave64 chunk: a GUID, and the size of both with the contents."""


def is_header_only(head: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes that begins with `head` has a header and no sound.

    Only for files that FFmpeg cannot open, or in which it finds nothing to decode.
    """
    rule = _RULES.get(kind_of(head) or "")
    return rule is not None and size <= len(head) and rule(head)


def _webm(data: bytes) -> bool:
    return CLUSTER not in data


def _ogg(data: bytes) -> bool:
    """Return whether all pages have the position 0 (RFC 3533, 6)."""
    pages = [page for page in data.split(b"OggS")[1:] if len(page) >= 10]
    return bool(pages) and not any(any(page[2:10]) for page in pages)


def _mp3(data: bytes) -> bool:
    """Return whether no frame follows the one that describes the others."""
    last = max(data.rfind(name) for name in MP3_TABLES)
    return last >= 0 and len(data) - last < MP3_FRAME


def _mp4(data: bytes) -> bool:
    """Return whether no box `mdat` has contents (ISO 14496-12: size, name, contents)."""
    at = 0
    while len(data) - at >= 8:
        size, name = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1 and len(data) - at >= 16:
            size, begin = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if name == b"mdat" and end > begin:
            return False
        if end < begin:
            return False
        at = end
    return True


def _caf(data: bytes) -> bool:
    """Return whether the chunk `data` has no more than its number of edits, of 4 bytes."""
    return len(data) - data.rfind(b"data") <= 4 + 8 + 4 or b"data" not in data


def _au(data: bytes) -> bool:
    """Return whether the file is no longer than the header that it states."""
    return len(data) >= 8 and len(data) <= int.from_bytes(data[4:8], "big")


def _amr(data: bytes) -> bool:
    return data in (b"#!AMR\n", b"#!AMR-WB\n")


def _wave64(data: bytes) -> bool:
    return len(data) - data.rfind(b"data\xf3\xac") <= WAVE64_CHUNK


_RULES: Mapping[str, Callable[[bytes], bool]] = {
    "WebM or Matroska": _webm,
    "Ogg": _ogg,
    "MP3": _mp3,
    "MP4": _mp4,
    "CAF": _caf,
    "AU": _au,
    "AMR": _amr,
    "Wave64": _wave64,
}
