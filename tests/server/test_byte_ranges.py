"""What a download is called, and which part of it was asked for."""

from __future__ import annotations

import pytest

from stream.recordings.messages import title
from stream.recordings.writer import RESULT
from stream.server.downloads import BadRange, byte_range, disposition


@pytest.mark.parametrize(
    ("name", "wanted"),
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
def test_downloads_are_named_after_the_file_without_its_tricks(name: str, wanted: str) -> None:
    assert title(name) == wanted
    header = disposition(title(name), RESULT)
    assert header.isascii()
    assert header.count('"') == 2
    assert not set("\r\n") & set(header)


@pytest.mark.parametrize(
    ("header", "wanted"),
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
def test_byte_ranges(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == wanted


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_ranges_that_are_not_there(header: str) -> None:
    with pytest.raises(BadRange):
        byte_range(header, 10)
