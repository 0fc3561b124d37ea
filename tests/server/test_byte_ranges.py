"""File names and byte ranges of downloads."""

from __future__ import annotations

import pytest

from stream.recordings.messages import title
from stream.result_files import RESULT
from stream.server.downloads import BadRange, byte_range, disposition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("call.mp3", "call"),
        ("../../etc/passwd", "passwd"),
        ("C:\\calls\\my call.wav", "my-call"),
        ('a"; x=".mp3', "a-x"),
        ("录音.m4a", "录音"),
        ("...", "recording"),
        ("a\r\nSet-Cookie: b.wav", "a-Set-Cookie-b"),
        ("x" * 200 + ".wav", "x" * 80),
    ],
)
def test_download_names_are_sanitised(name: str, expected: str) -> None:
    assert title(name) == expected
    header = disposition(title(name), RESULT)
    assert header.isascii()
    assert header.count('"') == 2
    assert not set("\r\n") & set(header)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-99", (2, 10)),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,4-5", None),
    ],
)
def test_byte_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_ranges_outside_the_file_raise_bad_range(header: str) -> None:
    with pytest.raises(BadRange):
        byte_range(header, 10)
