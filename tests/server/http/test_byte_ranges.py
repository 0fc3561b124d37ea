"""File names and byte ranges of downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from stream.recordings.messages import title
from stream.result_files import RESULT
from stream.server.http.static_files import SentFile, disposition, valid_range


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


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A client of an application that sends a file of 10 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return TestClient(SentFile(path))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-99", (2, 10)),
        ("BYTES = 2 - 99", None),
        ("bytes= 2-3 ", (2, 4)),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=5-4", None),
        ("bytes=1-2,x", None),
        ("bytes=--5", None),
        ("bytes=1-2-3", None),
        ("bytes=" + "9" * 5_000 + "-", None),
        ("lines=1-2", None),
    ],
)
def test_byte_ranges(client: TestClient, header: str, expected: tuple[int, int] | None) -> None:
    """An invalid header is ignored (RFC 9110, 14.2); `int` refuses too many digits."""
    response = client.get("/", headers={"Range": header} if header else {})
    assert response.status_code == (200 if expected is None else 206)
    start, end = expected or (0, 10)
    assert response.content == b"0123456789"[start:end]
    assert valid_range(header) is (expected is not None)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_ranges_outside_the_file_are_refused(client: TestClient, header: str) -> None:
    response = client.get("/", headers={"Range": header})
    assert (response.status_code, response.headers["Content-Range"]) == (416, "bytes */10")


def test_several_ranges_are_valid() -> None:
    assert valid_range("bytes=0-1, 4-5 ,-1")
    assert not valid_range("bytes=0-1,,4-5")
