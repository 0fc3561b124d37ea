"""One HTTP connection: uvicorn's protocol with time limits, in fair order, errors as JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import h11
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.intake import PIECE
from stream.server.connections.request_head import CheckedConnection
from stream.server.responses import JSON, common_headers, error_body

log = logging.getLogger(__name__)

REQUEST_S = 10.0
"""Seconds in which the head of a request must arrive."""

LINGER_S = 10.0
"""Seconds in which the peer must read the last bytes of a connection that is closed."""

REFUSED_S = 0.5
"""Seconds in which a refused client must take the refusal."""

MAX_REFUSED = 32
"""Refused clients that get a response at a time; others are dropped."""

PROBES = (b"GET /healthz ", b"GET /readyz ", b"HEAD /healthz ")
"""Requests of load balancers and supervisors; they do not wait for other connections."""


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection.

    By itself it waits for ever for a request to arrive, and parses all that it reads at once: a
    body in chunks of one byte would hold the event loop for a second.
    """

    _late: asyncio.TimerHandle | None = None
    _held = b""
    """Bytes that were received and are not parsed yet."""
    _is_queued = False
    _lost = False
    _is_parsing = False
    _is_refused = False
    flow: _Flow
    conn: CheckedConnection

    def __init__(
        self,
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        queue: FairQueue | None = None,
        excess: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.conn = CheckedConnection(config.h11_max_incomplete_event_size)
        self._queue = queue or FairQueue()
        self._usage = self._queue.usage()
        self._excess = excess

    # uvicorn's own signature; asyncio's takes a BaseTransport.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if excess := self._excess():
            self._refuse_connection(excess)
            return
        self.flow = _Flow(transport, self._continue)
        self.app_state = {
            # For an application that gives up on a client that does not read; see `middleware`.
            "abort": transport.abort,
            # Requests take their time in a task, not while they are parsed.
            "charge": lambda seconds: self._queue.charge(self._usage, seconds),
            "usage": self._usage,
        }
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._held:
            self._held += data
            self.transport.pause_reading()
            return
        self._held = data
        if data.startswith(PROBES) and not self._is_queued:
            self._step()
        self._continue()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_waiting()
        self._held = b""
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._linger()

    def handle_events(self) -> None:
        """Handle what is parsed, in a step of its own after a response: the next request."""
        if self._is_parsing:
            super().handle_events()
        else:
            self._queue.run(self._usage, self._handle_rest)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        self.flow.release()
        super().handle_websocket_upgrade(event)
        # uvicorn drops what a hasty client sent behind its request.
        rest = self.conn.trailing_data[0] + self._held
        self._held = b""
        if rest:
            upgraded = cast(asyncio.Protocol, self.transport.get_protocol())
            upgraded.data_received(rest)

    def on_response_complete(self) -> None:
        self._stop_waiting()
        if self.conn.their_state is h11.SEND_BODY:
            # The rest of a body that no endpoint reads.
            self.transport.close()
        super().on_response_complete()
        if self.transport.is_closing():
            self._linger()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not valid HTTP, as JSON like every other error."""
        self._held = b""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            # A response has begun, and nothing else can be sent.
            self.transport.abort()
            return
        body = error_body(self.conn.fault or "invalid HTTP request")
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
        self._linger()

    def _step(self) -> bool:
        """Parse a piece of the bytes held; return whether there is more to parse now."""
        if not self._may_step():
            self._is_queued = False
            return False
        try:
            self._parse()
        except Exception:
            log.exception("connection failed")
            self.transport.abort()
        self._is_queued = self._may_step()
        return self._is_queued

    def _handle_rest(self) -> bool:
        if not self.transport.is_closing():
            self._is_parsing = True
            try:
                super().handle_events()
            finally:
                self._is_parsing = False
            # At most one request was started, and it takes its time later.
            self._queue.end_slice()
        return False

    def _may_step(self) -> bool:
        """Return whether a piece may be parsed; if not, prepare for what comes next."""
        if self.transport.is_closing():
            self._held = b""
        elif not self._held:
            self.flow.release()
        return bool(self._held) and not self.flow.read_paused

    def _parse(self) -> None:
        if self._late is None and self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        size = len(self._held) if self._is_one_piece() else PIECE
        piece, self._held = self._held[:size], self._held[size:]
        cycle = self.cycle
        self._is_parsing = True
        try:
            super().data_received(piece)
        finally:
            self._is_parsing = False
        if self.cycle is not cycle:
            self._queue.end_slice()
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def _continue(self) -> None:
        """Go on with the bytes held, unless the application reads no more; then read again."""
        if self._is_queued or not self._may_step():
            return
        self._is_queued = True
        self._queue.run(self._usage, self._step)
        if self._held:
            self.flow.hold()

    def _refuse_connection(self, excess: int) -> None:
        """Answer a connection beyond the limit, whatever it asks for."""
        self._is_refused = True
        if excess > MAX_REFUSED:
            self.transport.abort()
            return
        body = error_body("overloaded: too many connections; try again later")
        head = (
            "HTTP/1.1 503 Service Unavailable\r\n"
            f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
            "Retry-After: 5\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # Closed at once, a client that still sends might lose the response.
        self._late = self.loop.call_later(REFUSED_S, self.transport.abort)

    def _linger(self) -> None:
        """Drop a closed connection whose peer does not read the rest of the last response."""
        if not self._lost:
            self.loop.call_later(LINGER_S, self._drop)

    def _drop(self) -> None:
        if not self._lost:
            self.transport.abort()

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
