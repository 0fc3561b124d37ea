"""Bytes in front of the sound: ID3v2, which taggers also write where a format does not have it, and
what is left of text: a byte-order mark, or line ends of a request."""

from __future__ import annotations

from stream.audio.files.views import Reader

ID3_HEADER = 10
"""Bytes of the header of an ID3v2 tag, and of its footer."""

PADDING = 65_536
"""Zero bytes after a tag that are skipped at most."""

MAX_TAGS = 100
"""Tags that are skipped at most."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANKS = b"\r\n\t "
MAX_BLANKS = 16
"""Blanks before a file that are skipped at most."""

RECOGNISED = tuple(
    bytes(name, "latin-1")
    for name in (
        *("RIFF", "RIFX", "RF64", "BW64", "riff", "FORM", "fLaC", "OggS", "caff", ".snd", "#!AMR"),
        *("\x1aE\xdf\xa3", "\x30\x26\xb2\x75"),
    )
)
"""First bytes of formats that FFmpeg does not recognise behind a tag."""


def id3_size(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag that begins with `head` (10 bytes), 0 if there is none.

    The size has four digits of seven bits (ID3v2.4, section 3.1); bit 4 of the flags is a footer.
    """
    if len(head) < ID3_HEADER or head[:3] != b"ID3" or max(head[6:10]) > 127 or head[3] == 0xFF:
        return 0
    digits = head[6:10]
    size = digits[0] << 21 | digits[1] << 14 | digits[2] << 7 | digits[3]
    return ID3_HEADER + size + (ID3_HEADER if head[5] & 0x10 else 0)


def after_tags(file: Reader, at: int = 0) -> int:
    """Return the position behind the ID3v2 tags that begin at `at`; it may lie behind the file."""
    for _ in range(MAX_TAGS):
        file.seek(at)
        size = id3_size(file.read(ID3_HEADER))
        if not size:
            break
        at += size
    return at


def _after_text(file: Reader) -> int:
    """Return the position behind a byte-order mark and blanks."""
    file.seek(0)
    head = file.read(len(BYTE_ORDER_MARK) + MAX_BLANKS)
    return len(head) - len(head.removeprefix(BYTE_ORDER_MARK).lstrip(BLANKS))


def start_of_sound(file: Reader) -> int:
    """Return the position at which FFmpeg has to begin: 0, or behind what misleads it."""
    text = _after_text(file)
    end = after_tags(file, text)
    if not end:
        return 0
    file.seek(end)
    rest = file.read(PADDING)
    at = end + len(rest) - len(rest.lstrip(b"\0"))
    file.seek(at)
    head = file.read(12)
    # An MP4 begins with the size of its first box, of which the first bytes are zero as well.
    box = head.find(b"ftyp") - 4
    if -4 < box <= 0:
        return max(end, at + box)
    return at if head.startswith(RECOGNISED) else text
