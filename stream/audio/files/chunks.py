"""Layout of WAV, Wave64 and AIFF files: where the sound is, whatever the header states.

Recorders that write to a pipe cannot know a length, and state 0, the highest number, or one of
their own; others forget the header, or write over a longer file. FFmpeg believes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from stream.audio.files.views import Extent, Reader

MAX_CHUNKS = 10_000
"""Chunks, and joined files, that are read at most."""

HEADER_LIMIT = 1024 * 1024
"""Bytes in front of the sound that a corrected header may have."""

UNKNOWN_FROM = 0x7F00_0000
"""Sizes from here on are placeholders: SoX states 0x7FFFF000, FFmpeg 0xFFFFFFFF, others 2 GiB."""

HEADER_SLACK = 8_192
"""Bytes by which a length may be wrong because a header was counted or left out, at most."""

WAVE64_BEGIN, WAVE64_CHUNK = 40, 24
"""Bytes of a Wave64 before its chunks, and of a chunk before its contents."""
WAVE64_UNKNOWN_FROM = 1 << 62
"""Sizes of a Wave64 from here on are placeholders."""

FORMS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")
GARBAGE = 64
"""Bytes behind the sound that are not taken for sound."""

SOUND = {b"WAVE": b"data", b"AIFF": b"SSND", b"AIFC": b"SSND"}
FORMAT = {b"WAVE": b"fmt ", b"AIFF": b"COMM", b"AIFC": b"COMM"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Sound of one WAV or AIFF file.

    `header` are the bytes in front of the sound, with the true size; None if they cannot be
    corrected. Chunks behind the sound are dropped, because FFmpeg refuses a file for a faulty one.
    `missing` are the bytes that the header states and the file does not have. `left_out` are bytes
    behind the sound that no chunk explains and that are not taken for sound.
    """

    header: bytes | None
    sound: tuple[Extent, ...]
    missing: int = 0
    left_out: int = 0

    @property
    def is_empty(self) -> bool:
        """True if there is no sound, and none is missing."""
        return not self.missing and all(start >= end for start, end in self.sound)


@dataclass(frozen=True, slots=True)
class _Form:
    """One RIFF or FORM: where it and its sound begin, its format, and the sizes that it states."""

    at: int
    order: str
    kind: bytes
    end: int | None
    format: bytes
    sound: int
    size: int | None
    size_field: tuple[int, str]
    """Position and `struct` format of the size of the sound."""

    def joins(self, other: _Form) -> bool:
        """Return whether the sound of `other` can follow; that of AIFF begins with an offset."""
        return self.kind == other.kind == b"WAVE" and (self.order, self.format) == (
            other.order,
            other.format,
        )


def layout(file: Reader, file_size: int) -> Layout | None:
    """Return the layout of a WAV or AIFF file of `file_size` bytes; None for other formats.

    That of a Wave64 only if it was written to a pipe: FFmpeg reads all others.
    """
    form = _read_form(file, 0, file_size)
    if form is None:
        return _wave64(file, file_size)
    slack = _slack(form)
    if form.size is None or (form.size == 0 and _rest(file, form.sound, file_size)[0] == "sound"):
        return _corrected(file, form, [(form.sound, file_size)])
    stated_end = form.sound + form.size
    if stated_end > file_size:
        missing = stated_end - file_size
        whole = form.end is not None and abs(form.end - file_size) <= 64
        if whole or missing <= slack:
            missing = 0
        return _corrected(file, form, [(form.sound, file_size)], missing)
    extents = [(form.sound, stated_end)]
    at, left_out = stated_end + form.size % 2, 0
    for _ in range(MAX_CHUNKS):
        kind, at = _rest(file, at, file_size)
        if kind == "sound" and file_size - at > GARBAGE:
            extents[-1] = (extents[-1][0], file_size)
        if kind != "form":
            break
        following = _read_form(file, at, file_size)
        if following is None or not form.joins(following):
            left_out = file_size - at
            break
        end = following.sound + (following.size or file_size)
        extents.append((following.sound, min(end, file_size)))
        at = end + end % 2
    return _corrected(file, form, extents, 0, left_out)


def _read_form(file: Reader, at: int, file_size: int) -> _Form | None:
    """Read the chunks of a RIFF or FORM up to its sound."""
    file.seek(at)
    head = file.read(12)
    if len(head) < 12 or head[:4] not in FORMS or head[8:] not in SOUND:
        return None
    order = ">" if head[:4] in (b"FORM", b"RIFX") else "<"
    kind = head[8:]
    end = _known(struct.unpack(order + "I", head[4:8])[0])
    wide: tuple[int, int | None] | None = None
    contents = b""
    position = at + 12
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        name, size = struct.unpack(order + "4sI", chunk)
        position += 8
        if name == b"ds64" and size >= 16:
            whole, data = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
            wide, end = (position + 8, data or None), whole or None
        elif name == FORMAT[kind]:
            contents = file.read(min(size, 1024))
        elif name == SOUND[kind]:
            field, stated = (position - 4, order + "I"), _known(size) if size else 0
            if wide is not None and size == 0xFFFF_FFFF:
                field, stated = (wide[0], "<Q"), wide[1]
            if kind != b"WAVE":
                # Frame count, rate and sizes of AIFF describe the length as well; compare the rest.
                contents = contents[:2] + contents[6:]
            return _Form(
                at, order, kind, at + 8 + end if end else None, contents, position, stated, field
            )
        position += size + size % 2
        if position > file_size:
            return None
    return None


def _wave64(file: Reader, file_size: int) -> Layout | None:
    """Return the layout of a Wave64 of unknown length: FFmpeg states 2^63 - 1, and refuses that.

    Each chunk has a GUID and its size with both, and is padded to 8 bytes.
    """
    file.seek(0)
    if file.read(4) != b"riff":
        return None
    at = WAVE64_BEGIN
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(WAVE64_CHUNK)
        if len(chunk) < WAVE64_CHUNK or at > HEADER_LIMIT:
            return None
        size = int(struct.unpack_from("<Q", chunk, 16)[0])
        if chunk[:4] == b"data" and size >= WAVE64_UNKNOWN_FROM:
            sound = at + WAVE64_CHUNK
            file.seek(0)
            header = bytearray(file.read(sound))
            struct.pack_into("<Q", header, 16, file_size)
            struct.pack_into("<Q", header, sound - 8, file_size - at)
            return Layout(bytes(header), ((sound, file_size),))
        if size < WAVE64_CHUNK or size >= WAVE64_UNKNOWN_FROM:
            return None
        at += size + -size % 8
    return None


def _known(size: int) -> int | None:
    """Return a stated size, or None for a placeholder."""
    return size if 0 < size < UNKNOWN_FROM else None


def _slack(form: _Form) -> int:
    """Return the bytes by which a stated length may be wrong: a header, or 50 ms."""
    field = form.format[8:12] if form.kind == b"WAVE" else b""
    second = int.from_bytes(field, "little" if form.order == "<" else "big")
    return max(min(form.sound - form.at + 64, HEADER_SLACK), second // 20)


def _rest(file: Reader, at: int, file_size: int) -> tuple[str, int]:
    """Return what follows from `at` on, and where: "nothing", "form" (another file) or "sound".

    Chunks, tags and padding are skipped.
    """
    start = at
    for _ in range(MAX_CHUNKS):
        if file_size - at < 8:
            break
        file.seek(at)
        head = file.read(12)
        if head[:4] in FORMS and head[8:12] in SOUND:
            return "form", at
        if head[:3] in (b"ID3", b"TAG") or head[:8] == b"APETAGEX":
            break
        if not any(head) and _is_zero(file, at, file_size):
            break
        sizes = (struct.unpack(order + "I", head[4:8])[0] for order in ("<", ">"))
        size = next((s for s in sizes if at + 8 + s <= file_size + 1), None)
        if size is None or not all(0x20 <= letter < 0x7F for letter in head[:4]):
            return "sound", start
        at += 8 + size + size % 2
    return "nothing", at


def _is_zero(file: Reader, at: int, file_size: int) -> bool:
    file.seek(at)
    return not any(any(block) for block in _blocks(file, file_size - at))


def _blocks(file: Reader, size: int) -> Iterator[bytes]:
    while size > 0 and (block := file.read(min(size, 65_536))):
        yield block
        size -= len(block)


def _corrected(
    file: Reader, form: _Form, extents: list[Extent], missing: int = 0, left_out: int = 0
) -> Layout:
    """Return the layout with a header that states the size of the extents."""
    length = sum(end - start for start, end in extents)
    position, size_format = form.size_field
    header = None
    if form.format and form.sound <= HEADER_LIMIT and (length < 0xFFFF_FFFF or size_format == "<Q"):
        file.seek(0)
        patched = bytearray(file.read(form.sound))
        struct.pack_into(size_format, patched, position, length)
        if form.kind != b"WAVE":
            # FFmpeg reads on for chunks that the size of the FORM promises.
            struct.pack_into(">I", patched, 4, form.sound + length - 8)
        header = bytes(patched)
    return Layout(header, tuple(extents), missing, left_out)
