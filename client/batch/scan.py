"""Search for recordings in folders: the contents decide, not the names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HEAD = 4_096
"""Bytes of a file that are looked at."""

MAGIC: Sequence[tuple[int, bytes]] = (
    (0, b"RIFF"),
    (0, b"RIFX"),
    (0, b"RF64"),
    (0, b"BW64"),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b"FORM"),
    (0, b"OggS"),
    (0, b"fLaC"),
    (0, b"ID3"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"caff"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"#!AMR"),
    (0, b".snd"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"FLV\x01"),
    (0, b".RMF"),
    (0, b"MAC "),
    (0, b"wvpk"),
    (0, b"TTA1"),
    (0, b"MPCK"),
    (0, b"\x0b\x77"),
    (0, b"NIST_1A"),
    (0, b"Creative Voice File"),
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
)
"""Position and bytes by which files with sound begin."""

RIFF_FORMS = (b"WAVE", b"AVI ", b"AIFF", b"AIFC")
"""Forms of RIFF and FORM with sound; others are pictures, fonts and notes."""

_NAMED = """
    wav wave mp3 mp2 mpga m4a m4b aac flac ogg oga opus spx webm weba wma amr aiff aif caf mka mkv
    mp4 mov qta 3gp 3gpp 3ga au ac3 w64 avi mpg mpeg ts
"""
SUFFIXES = frozenset(f".{suffix}" for suffix in _NAMED.split())
"""Suffixes of recordings: a file that has one and no sound is tried, and reported as failed."""

COMPANIONS = frozenset(("thumbs.db", "desktop.ini", ".ds_store"))
"""Files that systems put beside others, in lower case; besides those that begin with `._`."""

COMPANION_FOLDERS = frozenset(("__MACOSX", "@eaDir"))


@dataclass(frozen=True, slots=True)
class Skipped:
    """File in a folder that is not analysed, and the reason."""

    path: Path
    reason: str


Found = Path | Skipped


def scan(names: Sequence[str], out: Path) -> Iterator[Found]:
    """Yield the named files and those in the named folders, each once, none in `out`.

    A file that is named is analysed whatever it is.
    """
    seen: set[Path] = set()
    results = out.resolve()
    for name in names:
        path = Path(name)
        inside = path.is_dir()
        for file in sorted(path.rglob("*"), key=str) if inside else [path]:
            resolved = file.resolve()
            if resolved in seen or (inside and resolved.is_relative_to(results)):
                continue
            if inside and not file.is_file():
                continue
            seen.add(resolved)
            reason = _reason_to_skip(file) if inside else ""
            yield Skipped(file, reason) if reason else file


def has_sound(head: bytes) -> bool:
    """Return whether a file that begins with `head` may be a recording."""
    if head[:4] in (b"RIFF", b"FORM"):
        return head[8:12] in RIFF_FORMS
    if any(head.startswith(magic, at) for at, magic in MAGIC):
        return True
    return _is_transport_stream(head) or _is_mpeg_audio(head)


def _reason_to_skip(file: Path) -> str:
    """Return why a file in a folder is not analysed, or ""."""
    if file.name.lower() in COMPANIONS or file.name.startswith("._"):
        return "a companion file of the system"
    if COMPANION_FOLDERS.intersection(file.parts):
        return "in a companion folder of the system"
    if file.suffix.lower() in SUFFIXES:
        return ""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
    return "" if has_sound(head) else "not a recording" if head else "empty"


def _is_transport_stream(head: bytes) -> bool:
    """Return whether packets of 188 bytes begin with their sync byte (ISO 13818-1, 2.4.3)."""
    starts = (0, 4)  # Blu-ray has four bytes before each packet of 188
    return any(
        len(head) > 3 * step and all(head[start + n * step] == 0x47 for n in range(3))
        for start, step in zip(starts, (188, 192), strict=True)
    )


_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 includes 2.5), layer and index from 1 (ISO 11172-3, 2.4.2.3; 13818-3)."""


def _is_mpeg_audio(head: bytes) -> bool:
    """Return whether two frames of MP3, MP2 or AAC follow each other near the beginning."""
    for at in range(min(len(head), HEAD // 2)):
        length = _frame_length(head[at : at + 7])
        if length and _frame_length(head[at + length : at + length + 7]):
            return True
    return False


def _frame_length(header: bytes) -> int:
    """Return the bytes of the frame of MPEG audio or ADTS that begins so, 0 if it is none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    layer = 4 - (header[1] >> 1 & 3)
    if layer == 4:  # ADTS (ISO 13818-7, 6.2)
        if header[1] & 0xF0 != 0xF0 or header[2] >> 2 & 15 > 12:
            return 0
        return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    version, index, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or index in (0, 15) or rate == 3:
        return 0
    kbps = _BITRATES[1 if version == 3 else 2, layer][index - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kbps // hertz + padding) * 4
    samples = 72_000 if layer == 3 and version != 3 else 144_000
    return samples * kbps // hertz + padding
