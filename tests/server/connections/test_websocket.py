"""One WebSocket connection on a transport of its own: faults of the transport."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from stream.delivery.transport import Handler, Message
from stream.server.connections.websocket import WebSocketConnection

REQUEST = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Silent:
    """Handler that does nothing."""

    def received(self, message: Message) -> None: ...

    def resumed(self) -> None: ...

    def refused(self, *refusal: object) -> None: ...

    def disconnected(self, code: int | None) -> None: ...


class Gone(asyncio.Transport):
    """Transport whose peer has left: the system refuses to end our side."""

    def write(self, data: object) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def serve(connection: WebSocketConnection, request: Request) -> Callable[[], Handler] | Response:
    return Silent


async def test_a_peer_that_is_gone_when_we_close_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ending our side of a connection that the peer had reset was logged with a traceback."""
    connection = WebSocketConnection(serve, 1 << 20, set())
    connection.connection_made(Gone())
    connection.data_received(REQUEST)
    await asyncio.sleep(0.05)
    connection.data_received(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    await asyncio.sleep(0.05)
    assert not caplog.records
    connection.connection_lost(None)
