"""Heads of requests that two servers could read in two ways are refused with a reason."""

from __future__ import annotations

import h11
import pytest

from stream.server.connections.request_head import ONCE, CheckedConnection

LINE = b"GET / HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"


def read(raw: bytes) -> h11.Request:
    connection = CheckedConnection()
    connection.receive_data(raw)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


def reason(raw: bytes) -> str:
    connection = CheckedConnection()
    connection.receive_data(raw)
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()
    return connection.fault


@pytest.mark.parametrize("name", sorted(ONCE - {b"host"}))
def test_a_header_that_decides_must_not_come_twice(name: bytes) -> None:
    """Host, Upgrade, Origin or If-None-Match twice was "500, see server log", and that was empty.

    Equal Content-Length headers count as well, which h11 would merge.
    """
    value = b"chunked" if name == b"transfer-encoding" else b"5"
    twice = name + b": " + value + b"\r\n" + name.upper() + b": " + value + b"\r\n"
    text = reason(LINE + HOST + twice + b"\r\n")
    assert "transfer-encoding" in text.lower() if value == b"chunked" else "came twice" in text


def test_two_hosts_are_refused() -> None:
    assert "multiple Host" in reason(LINE + HOST + b"host: evil.example\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "came together"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "came together"),
        (b"Content-Length: 5, 6\r\n", "conflicting"),
        (b"Content-Length: +5\r\n", "bad Content-Length"),
        (b"Content-Length: 0x5\r\n", "bad Content-Length"),
        (b"Transfer-Encoding: xchunked\r\n", "Only Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked, identity\r\n", "Only Transfer-Encoding: chunked"),
        (b"Transfer-Encoding : chunked\r\n", "illegal header line"),
        (b"X: a\r\n Transfer-Encoding: chunked\r\n", "continued on the next line"),
        (b"X: a\nTransfer-Encoding: chunked\r\n", "CR LF"),
        (b"X: a\r\n\tb\r\n", "continued on the next line"),
    ],
)
def test_shapes_of_request_smuggling_are_refused(head: bytes, text: str) -> None:
    assert text in reason(LINE + HOST + head + b"\r\n")


def test_bare_line_feeds_are_refused() -> None:
    assert "CR LF" in reason(b"GET / HTTP/1.1\nHost: localhost\n\n")


def test_other_headers_may_come_twice() -> None:
    request = read(LINE + HOST + b"Accept: a\r\nAccept: b\r\nCookie: c\r\nCookie: d\r\n\r\n")
    assert len(request.headers) == 5


def test_a_head_in_pieces_is_checked_too() -> None:
    connection = CheckedConnection()
    for byte in LINE + HOST + b"Origin: a\r\nOrigin: b\r\n":
        connection.receive_data(bytes([byte]))
        assert connection.next_event() is h11.NEED_DATA
    connection.receive_data(b"\r\n")
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()
    assert "Origin came twice" in connection.fault


def test_the_reason_is_short() -> None:
    assert len(reason(b"\x00" * 10_000)) <= 300
