"""One HTTP connection: uvicorn's protocol with time limits, parsed in pieces, errors as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from stream.server.responses import JSON, common_headers, error_body

REQUEST_S = 10.0
"""Seconds in which the head of a request must arrive."""

PIECE = 4_096
"""Bytes that are parsed at a time: some 700 of the smallest chunks of a body, a few ms of work."""


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection.

    By itself it waits for ever for a request to arrive, and parses all that it reads at once: a
    body in chunks of one byte would hold the event loop for a second.
    """

    _late: asyncio.TimerHandle | None = None
    _held = b""
    """Bytes that were received and are not parsed yet."""
    _continuing: asyncio.Handle | None = None
    flow: _Flow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._continue)
        # For an application that gives up on a client that does not read; see `middleware`.
        self.app_state = {"abort": transport.abort}
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._held += data
            self.transport.pause_reading()
        else:
            self._held = data
            self._parse()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._held = b""
        if self._continuing is not None:
            self._continuing.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        self.flow.release()
        super().handle_websocket_upgrade(event)
        # uvicorn drops what a hasty client sent behind its request.
        rest = self.conn.trailing_data[0] + self._held
        self._held = b""
        if rest:
            self.transport.get_protocol().data_received(rest)  # type: ignore[attr-defined]

    def on_response_complete(self) -> None:
        self._stop_waiting()
        if self.conn.their_state is h11.SEND_BODY:
            # The rest of a body that no endpoint reads.
            self.transport.close()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not valid HTTP, as JSON like every other error."""
        self._held = b""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            # A response has begun, and nothing else can be sent.
            self.transport.abort()
            return
        body = error_body("invalid HTTP request")
        headers = [
            *common_headers(),
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _parse(self) -> None:
        """Parse a piece of the bytes held; the next one in a later iteration of the loop."""
        self._continuing = None
        if not self._held:
            return
        if self._late is None and self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        size = len(self._held) if self._is_one_piece() else PIECE
        piece, self._held = self._held[:size], self._held[size:]
        super().data_received(piece)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        self._continue()

    def _continue(self) -> None:
        """Go on with the bytes held, unless the application reads no more; then read again."""
        if self.transport.is_closing():
            self._held = b""
        elif not self._held:
            self.flow.release()
        elif not self.flow.read_paused and self._continuing is None:
            self.flow.hold()
            self._continuing = self.loop.call_soon(self._parse)

    def _is_one_piece(self) -> bool:
        """Return whether the bytes to come are of a body that is not sent in chunks."""
        return self.conn.their_state is h11.SEND_BODY and not any(
            name == b"transfer-encoding" for name, _ in self.headers
        )

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Flow(FlowControl):
    """uvicorn's flow control of a connection, which reads nothing while bytes are held."""

    def __init__(self, transport: asyncio.Transport, resumed: Callable[[], None]) -> None:
        super().__init__(transport)
        self._resumed = resumed
        self._held = False

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._resumed()
            if not self._held:
                self._transport.resume_reading()

    def hold(self) -> None:
        """Read nothing until `release`."""
        if not self._held:
            self._held = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Read again, unless the application reads no more."""
        if self._held:
            self._held = False
            if not self.read_paused:
                self._transport.resume_reading()
