"""Truncation of recordings, from the structure of the container alone.

A file is truncated if its container states more bytes than there are, or breaks off within an
element. A length that no recorder could know, a missing end mark and a picture that is longer than
the sound are not damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from stream.audio.files.tags import after_tags
from stream.audio.files.views import Reader

MP3_SLACK = 512
"""Bytes by which the length in a Xing header may be wrong: tags and padding."""

MAX_ELEMENTS = 1_000_000
"""Elements of a file that are read at most; what follows counts as complete."""

MPEG_SEARCH = 65_536
"""Bytes in which the first frame of an MP3 is searched."""

OGG_TAIL = 131_072
"""Bytes at the end of an Ogg that are searched for its last page; a page has at most 65 307."""

ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""GUID of the object with the size of the file (ASF specification, section 3.2)."""


def ends_early(file: Reader, size: int, container: str) -> bool:
    """Return whether the file of `size` bytes ends before its end. `container`: FFmpeg's name."""
    check = CHECKS.get(container)
    return check is not None and check(file, size)


def _mp3(file: Reader, size: int) -> bool:
    """Compare the file with the bytes in its Xing or VBRI header, and in those of joined files."""
    at, found = 0, False
    for _ in range(1_000):
        at = after_tags(file, at)
        if at > size:
            # The tag itself, usually its picture, is cut.
            return not found or at - size > MP3_SLACK
        file.seek(at)
        length = _mp3_length(file.read(MPEG_SEARCH))
        if length is None:
            return False
        at, found = at + length, True
        if at > size + MP3_SLACK:
            return True
        if at >= size:
            return False
    return False


def _mp3_length(head: bytes) -> int | None:
    """Return the bytes that the first frame states for the whole stream, from `head` on."""
    for name, offsets in ((b"Xing", (13, 21, 36)), (b"Info", (13, 21, 36)), (b"VBRI", (36,))):
        at = head.find(name)
        for offset in offsets:
            frame = at - offset
            if frame < 0 or head[frame] != 0xFF or head[frame + 1] & 0xE0 != 0xE0:
                continue
            if name == b"VBRI":
                field = head[at + 10 : at + 14]
            else:
                flags = int.from_bytes(head[at + 4 : at + 8], "big")
                first = at + 8 + 4 * (flags & 1)
                field = head[first : first + 4] if flags & 2 else b""
            length = int.from_bytes(field, "big")
            return frame + length if length else None
    return None


def _ogg(file: Reader, size: int) -> bool:
    """Return whether the last page is incomplete, or ends within a packet (RFC 3533, section 6)."""
    file.seek(max(0, size - OGG_TAIL))
    tail = file.read(OGG_TAIL)
    at = tail.find(b"OggS")
    while at >= 0:
        header = tail[at : at + 27]
        lacing = tail[at + 27 : at + 27 + header[26]] if len(header) == 27 else b""
        if len(header) < 27 or len(lacing) < header[26]:
            return True
        end = at + 27 + len(lacing) + sum(lacing)
        if end > len(tail):
            following = tail.find(b"OggS", at + 4)
            if following < 0:
                return True
            at = following  # these four bytes were not a page
            continue
        following = tail.find(b"OggS", end)
        if following < 0:
            is_last = header[5] & 4
            return bool(not is_last and lacing and lacing[-1] == 255)
        at = following
    return True


MP4_BOXES = frozenset(
    b"ftyp moov mdat free skip wide moof mfra sidx ssix styp meta uuid pnot prft emsg pdin".split()
)
"""Boxes of the top level of MP4 and QuickTime."""


def _mp4(file: Reader, size: int) -> bool:
    """Return whether a box ends behind the end of the file."""
    return any(end > size for _, _, end in _boxes(file, size))


def _boxes(file: Reader, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the boxes of the top level (ISO 14496-12, section 4.2)."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        if at > size:
            return
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return
        length, name = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8 or name not in MP4_BOXES:
            return  # the box reaches to the end of the file, or something else follows
        yield name, at, at + length
        at += length


def joined_mp4(file: Reader, size: int) -> int:
    """Return the bytes of other MP4 files behind the first one, which FFmpeg does not read."""
    seen: set[bytes] = set()
    for name, start, _ in _boxes(file, size):
        if name == b"ftyp" and {b"moov", b"mdat"} <= seen and b"moof" not in seen:
            return size - start
        seen.add(name)
    return 0


SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
"""Ids of the elements that live recorders write with an unknown size (RFC 9559)."""


def _matroska(file: Reader, size: int) -> bool:
    """Return whether an element ends behind the end of the file (RFC 8794, RFC 9559)."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        file.seek(at)
        header = file.read(12)
        if not header or not any(header):
            return False
        identity, width = _vint(header, keep_marker=True)
        length, length_width = _vint(header[width:], keep_marker=False) if width else (0, 0)
        if not width or not length_width:
            return len(header) < 12  # the header of the element is cut, or this is not an element
        at += width + length_width
        unknown = length == (1 << 7 * length_width) - 1
        if identity == SEGMENT and not unknown:
            if at + length > size:
                return True
            at += length
        elif identity in (SEGMENT, CLUSTER) and unknown:
            continue  # its children follow
        else:
            at += length
            if at > size:
                return True
    return False


def _vint(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Return a variable-size integer and its bytes; 0 bytes if it is invalid or incomplete."""
    if not data or not data[0]:
        return 0, 0
    width = 9 - data[0].bit_length()
    if len(data) < width:
        return 0, 0
    value = int.from_bytes(data[:width], "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), width


def _asf(file: Reader, size: int) -> bool:
    """Compare the file with the size in its header, which live broadcasts do not know."""
    file.seek(0)
    head = file.read(MPEG_SEARCH)
    at = head.find(ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return True
    stated = struct.unpack_from("<Q", head, at + 40)[0]
    broadcast = struct.unpack_from("<I", head, at + 88)[0] & 1
    return bool(not broadcast and stated > size)


def _avi(file: Reader, size: int) -> bool:
    """Return whether a RIFF ends behind the end of the file."""
    at = 0
    for _ in range(1_000):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            return False
        length = int.from_bytes(header[4:], "little")
        if not 0 < length < 0x7F00_0000:
            return False
        at += 8 + length + length % 2
        if at > size + 1:
            return True
    return False


def _caf(file: Reader, size: int) -> bool:
    """Return whether a chunk ends behind the end of the file; -1 is an unknown size."""
    at = 8
    for _ in range(10_000):
        file.seek(at)
        header = file.read(12)
        if len(header) < 12:
            return False
        length = struct.unpack(">q", header[4:])[0]
        if length < 0:
            return False
        at += 12 + length
        if at > size:
            return True
    return False


def _w64(file: Reader, size: int) -> bool:
    """Return whether a chunk ends behind the end of the file; sizes include the header."""
    at = 40
    for _ in range(10_000):
        file.seek(at)
        header = file.read(24)
        if len(header) < 24:
            return False
        length = struct.unpack("<Q", header[16:])[0]
        if length < 24 or length >= 1 << 62 or (header[:4] == b"data" and length == 24):
            return False
        at += length + -length % 8
        if at > size + 8:
            return True
    return False


def _au(file: Reader, size: int) -> bool:
    """Compare the file with the size in its header; 0xFFFFFFFF is unknown."""
    file.seek(0)
    header = file.read(12)
    start, length = struct.unpack(">II", header[4:]) if len(header) == 12 else (0, 0)
    return bool(0 < length < 0x7F00_0000 and start + length > size + start + 64)


CHECKS: dict[str, Callable[[Reader, int], bool]] = {
    "mp3": _mp3,
    "ogg": _ogg,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "matroska,webm": _matroska,
    "asf": _asf,
    "avi": _avi,
    "caf": _caf,
    "w64": _w64,
    "au": _au,
}
"""FFmpeg's name of a container → check. WAV and AIFF are in `chunks`; FLAC states samples."""
