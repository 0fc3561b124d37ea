"""Forms: parts and their content, in pieces of any size, and bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.server.http.multipart import Form, FormError, PartBegan, PartEnded, is_form

TYPE = "multipart/form-data; boundary=b"


def body(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """Return a form whose parts have the given headers and contents."""
    return (
        b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % (head.encode(), data) for head, data in parts) + end
    )


def part(name: str, filename: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"' + (
        f'; filename="{filename}"' if filename else ""
    )


def parse(data: bytes, step: int = 1000, content_type: str = TYPE) -> list[tuple[str, str, bytes]]:
    """Return name, filename and content of all parts; the body comes in pieces of `step` bytes."""
    form = Form(content_type, ["file"], ["options"])
    parts: list[tuple[str, str, bytes]] = []
    ended = True
    for at in range(0, len(data), step):
        for event in form.feed(data[at : at + step]):
            match event:
                case PartBegan(name, filename):
                    assert ended
                    ended = False
                    parts.append((name, filename, b""))
                case PartEnded():
                    ended = True
                case content:
                    assert not ended
                    name, filename, before = parts[-1]
                    parts[-1] = (name, filename, before + content)
    form.end()
    assert ended
    return parts


@given(
    content=st.binary(max_size=200) | st.text("\r\n-b", max_size=40).map(str.encode),
    options=st.binary(max_size=20),
    step=st.integers(1, 60),
)
def test_contents_do_not_depend_on_the_pieces(content: bytes, options: bytes, step: int) -> None:
    if b"\r\n--b" in b"\r\n" + content + b"\r\n" or b"\r\n--b" in b"\r\n" + options:
        return
    data = body((part("options"), options), (part("file", "a.wav"), content))
    assert parse(data, step) == [("options", "", options), ("file", "a.wav", content)]


@given(data=st.binary(max_size=300), step=st.integers(1, 100))
def test_bytes_that_are_not_a_form_are_refused(data: bytes, step: int) -> None:
    with pytest.raises(FormError):
        parse(data, step)
    with pytest.raises(FormError):
        parse(b"--b\r\n" + data, step)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("multipart/form-data; boundary=b", True),
        ('Multipart/Form-Data;boundary="b"', True),
        ("multipart/form-data", True),
        ("multipart/mixed; boundary=b", False),
        ("audio/wav", False),
        ("", False),
    ],
)
def test_is_form(header: str, name: bool) -> None:
    assert is_form(header) is name


def test_a_quoted_boundary_and_a_preamble_of_newlines_are_accepted() -> None:
    data = b"\r\n" + body((part("file"), b"x")) + b"\r\nepilogue"
    quoted = 'multipart/form-data; charset=utf-8; boundary="b"'
    assert parse(data, content_type=quoted) == [("file", "", b"x")]


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("Gespräch.wav", "Gespräch.wav"),
        ("../x.wav", "../x.wav"),
        ('a\\"b', 'a"b'),
        ("录音", "录音"),
    ],
)
def test_filenames_are_utf_8(filename: str, expected: str) -> None:
    assert parse(body((part("file", filename), b"x")))[0][1] == expected


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (part("other"), "unknown part 'other'"),
        ("Content-Disposition: form-data", "has no name"),
        ("Content-Type: audio/wav", "has no name"),
        ('Content-Disposition: attachment; name="file"', "has no name"),
        (part("file") + "\r\nContent-Transfer-Encoding: base64", "must be binary"),
        (part("file") + "\r\nX: " + "y" * 5_000, "header size"),
        (part("file") + "\r\nX: y" * 20, "header count"),
        ("no colon", "malformed"),
    ],
)
def test_headers_are_checked_and_bounded(head: str, text: str) -> None:
    with pytest.raises(FormError) as refused:
        parse(body((head, b"x")))
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("content_type", "data", "text"),
    [
        ("multipart/form-data", b"", "no boundary"),
        ("multipart/form-data; boundary=", b"", "no boundary"),
        (f"multipart/form-data; boundary={'b' * 300}", b"", "Boundary length"),
        (TYPE, b"", "incomplete"),
        (TYPE, body(end=b""), "incomplete"),
        (TYPE, body((part("file"), b"x"), end=b""), "incomplete"),
        (TYPE, body((part("file"), b"x"), end=b"--b-"), "incomplete"),
        (TYPE, body((part("options"), b"x")), "no part named file"),
        (TYPE, body(), "no part named file"),
        (TYPE, body((part("file"), b"x"), (part("file"), b"x")), "two parts named file"),
    ],
)
def test_an_incomplete_form_is_refused(content_type: str, data: bytes, text: str) -> None:
    with pytest.raises(FormError) as refused:
        parse(data, content_type=content_type)
    assert text in str(refused.value)


def test_spaces_behind_a_boundary_are_bounded() -> None:
    """The parser takes them byte by byte: 100 MB of them held the event loop for 40 s."""
    start = b"--b\r\n" + part("file").encode() + b"\r\n\r\nx\r\n--b"
    form = Form(TYPE, ["file"])
    form.feed(start + b"  ")
    with pytest.raises(FormError, match="too many spaces"):
        form.feed(b" " * 100)
    few = start + b" \t \r\n" + part("options").encode() + b"\r\n\r\n{}\r\n--b--"
    assert parse(few) == [("file", "", b"x"), ("options", "", b"{}")]
