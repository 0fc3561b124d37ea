"""Frames of one WebSocket: whole messages of audio by the shortest way, all else by websockets.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets was installed without its C extension
    from websockets.utils import apply_mask

WHOLE_BINARY = 0x82
"""First byte of a binary message in a single frame."""
MASKED = 0x80
LENGTH_16 = 126
"""Length that says that two bytes with the length follow; the next one means eight."""
MASK_BYTES = 4

Item = Request | Frame | bytes
"""The request, a frame, or the payload of a binary message in a single frame."""


class FrameReader:
    """Reader of what a peer sends.

    websockets takes 6 us for a frame, half of the cost of receiving a message of 20 ms of audio. A
    message that arrives whole needs no state, so it does not pass through websockets, provided that
    websockets holds no part of an earlier frame: every byte it was given came back in a frame.
    """

    def __init__(self, protocol: ServerProtocol) -> None:
        self._protocol = protocol
        self._unfinished: int | None = None
        """Bytes of an unfinished frame in websockets; None before the end of the request."""

    def read(self, data: bytes) -> list[Item]:
        """Parse bytes; return what they complete, in order."""
        protocol, items, at = self._protocol, list[Item](), 0
        if self._unfinished == 0 and protocol.state is OPEN and protocol.current_size is None:
            at = whole_messages(data, protocol.max_message_size, items)
            if at == len(data):
                return items
        rest = data[at:] if at else data
        protocol.receive_data(rest)
        events = protocol.events_received()
        self._count(rest, events)
        items += events  # type: ignore[arg-type]  # a server gets requests and frames only
        return items

    def _count(self, data: bytes, events: Iterable[object]) -> None:
        """Follow how many bytes of an unfinished frame websockets holds."""
        unfinished = self._unfinished
        if unfinished is not None:
            unfinished += len(data)
        for event in events:
            if isinstance(event, Request):
                _, end, frames = data.partition(b"\r\n\r\n")
                unfinished = len(frames) if end else None
            elif isinstance(event, Frame) and unfinished is not None:
                unfinished -= wire_size(len(event.data))
        self._unfinished = unfinished


def wire_size(length: int) -> int:
    """Return the bytes of a masked frame with a payload of `length` bytes."""
    extended = 0 if length < LENGTH_16 else 2 if length < 1 << 16 else 8
    return 2 + extended + MASK_BYTES + length


def whole_messages(data: bytes, max_size: int | None, items: list[Item]) -> int:
    """Append the payloads of the whole binary messages at the beginning of `data`.

    Return the position of the first byte after them, which belongs to something else: to an
    incomplete frame, a fragment, a text, a control frame, a large message, or an error.
    """
    at, end = 0, len(data)
    while end - at >= 2 + MASK_BYTES and data[at] == WHOLE_BINARY:
        size, begin = data[at + 1] - MASKED, at + 2 + MASK_BYTES
        if size == LENGTH_16:
            size, begin = data[at + 2] << 8 | data[at + 3], begin + 2
            if size < LENGTH_16:
                break  # not the shortest form
        elif not 0 <= size < LENGTH_16:
            break
        stop = begin + size
        if stop > end or (max_size is not None and size > max_size):
            break
        items.append(apply_mask(data[begin:stop], data[begin - MASK_BYTES : begin]))
        at = stop
    return at
