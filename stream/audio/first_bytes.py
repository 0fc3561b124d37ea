"""Recognition of a file, or of text, by the first bytes of what should be samples. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from stream.audio.files.containers import kind_of
from stream.types import Encoding

MIN_HEAD = 12
"""Bytes that tell a WAV from other audio."""

MORE_MAGIC = {
    b"OpusHead": "Opus",
}

TEXT = 64
"""Bytes of printable characters, with at least a few different ones, that are text and no audio."""

G711_TEXT = 512
"""The same for G.711: negative samples are ASCII, and half a cycle of a low voice is 64 bytes."""

ROUGH_TEXT = 15.0
"""Mean difference of neighbouring characters from which such bytes are text and not G.711.

On a line with an offset all samples may be negative, but neighbouring ones are alike: speech stays
below 13, text above 17.
"""

TS_PACKET = 188
"""Bytes of a packet of an MPEG transport stream; its first byte is `G`."""

_FLIPPED = {"alaw": 0x55}
"""Bits that an encoding inverts (ITU-T G.711)."""


def container_of(head: bytes, encoding: Encoding = "linear16") -> str | None:
    """Return the name of the container, or of the text, that a stream begins with, if any."""
    kind = kind_of(head)
    if kind == "WAV":
        return kind if len(head) >= MIN_HEAD and head[8:12] == b"WAVE" else None
    if kind is not None:
        return kind
    for magic, name in MORE_MAGIC.items():
        if head.startswith(magic):
            return name
    if _is_mpeg(head):
        return "MP3"
    if _is_adts(head):
        return "AAC (ADTS)"
    if _is_transport_stream(head):
        return "MPEG transport stream"
    return "text, such as base64 or JSON" if _is_text(head, encoding) else None


def _is_text(head: bytes, encoding: Encoding) -> bool:
    is_g711 = encoding in ("mulaw", "alaw")
    size = G711_TEXT if is_g711 else TEXT
    begin = head[:size]
    if len(begin) < size or not begin.isascii() or len(set(begin)) <= 8:
        return False
    if not begin.decode().replace("\n", "").replace("\r", "").isprintable():
        return False
    codes = [byte ^ _FLIPPED.get(encoding, 0) for byte in begin]
    change = sum(abs(b - a) for a, b in pairwise(codes))
    return not is_g711 or change >= ROUGH_TEXT * (size - 1)


_BIT_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""kbit/s of MPEG-1 and MPEG-2 layer III (ISO 11172-3, 13818-3)."""


def _is_mpeg(head: bytes) -> bool:
    """Return whether two frames of MPEG layer III follow each other."""
    length = _mpeg_frame(head)
    return length is not None and _mpeg_frame(head[length : length + 4]) is not None


def _mpeg_frame(header: bytes) -> int | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate, bits = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or not 0 < bits < 15:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    frame = 144 if version == 3 else 72
    return frame * _BIT_RATES[version != 3][bits] * 1000 // hertz + (header[2] >> 1 & 1)


def _is_adts(head: bytes) -> bool:
    """Return whether two frames of ADTS follow each other (ISO 13818-7, 6.2)."""
    length = _adts_frame(head)
    return length is not None and _adts_frame(head[length : length + 7]) is not None


def _adts_frame(header: bytes) -> int | None:
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 and header[2] >> 2 & 15 < 13 else None


def _is_transport_stream(head: bytes) -> bool:
    """Return whether packets of an MPEG transport stream follow each other (ISO 13818-1, 2.4.3).

    The first one begins a table: bit 6 of its second byte is set.
    """
    marks = head[: 4 * TS_PACKET : TS_PACKET]
    return marks == b"GGGG" and bool(head[1] & 0x40) and len(set(head[:TS_PACKET])) > 4


@dataclass(frozen=True, slots=True)
class WavHeader:
    """Header of a WAV: its length in bytes, and its format; the encoding is None if unknown."""

    length: int
    encoding: Encoding | None
    sample_rate: int
    channels: int


_WAV_ENCODINGS: Mapping[tuple[int, int], Encoding] = {
    (1, 16): "linear16",
    (3, 32): "f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
_EXTENSIBLE = 0xFFFE


def wav_header(head: bytes) -> WavHeader | None:
    """Return the header of a WAV, up to the contents of `data`; None if it is not complete."""
    at, form = 12, None
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        at += 8
        if name == b"data":
            if form is None:
                return WavHeader(at, None, 0, 0)
            tag, channels, rate, bits = form
            return WavHeader(at, _WAV_ENCODINGS.get((tag, bits)), rate, channels)
        if name == b"fmt " and at + 16 <= len(head):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
            if tag == _EXTENSIBLE and at + 26 <= len(head):
                tag = struct.unpack_from("<H", head, at + 24)[0]
            form = tag, channels, rate, bits
        at += size + size % 2
    return None
