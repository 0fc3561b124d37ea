"""Frames of a WebSocket: the same messages as by websockets alone, however they are cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from stream.server.connections.frames import FrameReader, whole_messages, wire_size

REQUEST = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MAX_BYTES = 70_000

FRAMES = st.one_of(
    st.tuples(
        st.sampled_from([Opcode.BINARY, Opcode.TEXT, Opcode.CONT]),
        st.sampled_from([0, 1, 5, 125]),
        st.booleans(),
    ),
    st.tuples(
        st.sampled_from([Opcode.PING, Opcode.PONG]), st.sampled_from([0, 125]), st.just(True)
    ),
    st.tuples(
        st.just(Opcode.BINARY), st.sampled_from([160, 65_535, 65_536, 70_001]), st.just(True)
    ),
    st.just((Opcode.CLOSE, 0, True)),
)
"""Opcode, bytes of the payload, and whether it is the last fragment."""


def opened() -> tuple[ServerProtocol, FrameReader]:
    protocol = ServerProtocol(max_size=MAX_BYTES)
    reader = FrameReader(protocol)
    (request,) = reader.read(REQUEST)
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    return protocol, reader


def described(items: list[Request | Frame | bytes]) -> list[tuple[Opcode, bool, bytes]]:
    found = []
    for item in items:
        if isinstance(item, bytes):
            found.append((Opcode.BINARY, True, item))
        elif isinstance(item, Frame):
            found.append((item.opcode, item.fin, bytes(item.data)))
    return found


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return `data` in at most some 300 pieces whose sizes are `sizes`, again and again."""
    pieces, at, n, least = [], 0, 0, len(data) // 300
    while at < len(data):
        pieces.append(data[at : at + max(least, sizes[n % len(sizes)])])
        at, n = at + len(pieces[-1]), n + 1
    return pieces


def by_websockets(data: bytes) -> tuple[list[tuple[Opcode, bool, bytes]], list[bytes], object]:
    protocol, _ = opened()
    protocol.receive_data(data)
    items = [event for event in protocol.events_received() if isinstance(event, Frame)]
    return described([*items]), protocol.data_to_send(), protocol.state


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 200_000), min_size=1, max_size=4))
def test_the_messages_are_those_of_websockets_however_they_are_cut(
    frames: list[tuple[Opcode, int, bool]], sizes: list[int]
) -> None:
    data = b"".join(
        Frame(opcode, bytes(size), fin).serialize(mask=True) for opcode, size, fin in frames
    )
    protocol, reader = opened()
    found, sent = [], list[bytes]()
    for piece in cut(data, sizes):
        found += described(reader.read(piece))
        sent += protocol.data_to_send()
    expected, answer, state = by_websockets(data)
    assert found == expected
    assert b"".join(sent) == b"".join(answer)
    assert protocol.state is state


@settings(deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(1, 50), min_size=1, max_size=3))
def test_any_bytes_end_as_by_websockets(data: bytes, sizes: list[int]) -> None:
    audio = Frame(Opcode.BINARY, b"abc").serialize(mask=True)
    protocol, reader = opened()
    found = []
    for piece in cut(audio + data, sizes):
        found += described(reader.read(piece))
    expected, _, state = by_websockets(audio + data)
    assert found == expected
    assert protocol.state is state


def test_a_message_that_comes_whole_never_reaches_websockets() -> None:
    protocol, reader = opened()
    audio = Frame(Opcode.BINARY, bytes(160)).serialize(mask=True)
    protocol.receive_data = None  # type: ignore[assignment, method-assign]  # must not be called
    assert reader.read(audio * 3) == [bytes(160)] * 3


def test_after_a_control_frame_messages_are_taken_whole_again() -> None:
    protocol, reader = opened()
    audio = Frame(Opcode.BINARY, bytes(160)).serialize(mask=True)
    ping = Frame(Opcode.PING, b"x").serialize(mask=True)
    assert len(reader.read(audio + ping[:3])) == 1
    assert len(reader.read(ping[3:] + audio)) == 2
    protocol.receive_data = None  # type: ignore[assignment, method-assign]  # must not be called
    assert reader.read(audio) == [bytes(160)]


def test_frames_behind_the_request_in_one_read_are_found() -> None:
    protocol = ServerProtocol(max_size=MAX_BYTES)
    reader = FrameReader(protocol)
    audio = Frame(Opcode.BINARY, b"one").serialize(mask=True)
    (request, *_) = reader.read(REQUEST + audio[:4])
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    found = described(reader.read(audio[4:] + audio))
    assert [data for _, _, data in found] == [b"one", b"one"]


def test_a_message_beyond_the_limit_is_left_to_websockets() -> None:
    items: list[Request | Frame | bytes] = []
    data = Frame(Opcode.BINARY, bytes(200)).serialize(mask=True)
    assert whole_messages(data, 199, items) == 0
    assert whole_messages(data, 200, items) == len(data) == wire_size(200)
    assert items == [bytes(200)]
