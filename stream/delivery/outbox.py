"""Bounded outbox of one WebSocket, its writer, and an orderly close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from contextlib import suppress

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream.delivery.queues import ConflatingQueue
from stream.protocol.errors import ProtocolError
from stream.protocol.version import VERSION
from stream.telemetry.metrics import Metrics
from stream.types import Body, timestamp

CLOSE_TIMEOUT_S = 5.0
"""Time for a peer to read the queued messages and to close."""


class Outbox:
    """Bounded queue of messages to one connection, and its writer.

    `run`, in a task of its own, sends the messages of `queue` in order, so that a slow reader
    blocks only that task. Before the next message it reports dropped ones as `lagged`.
    """

    def __init__(self, socket: ServerConnection, bound: int, metrics: Metrics) -> None:
        self._socket = socket
        self._metrics = metrics
        self.queue: ConflatingQueue[bytes] = ConflatingQueue(bound)
        self.sending_since: float | None = None
        """Start of the send that is in progress, in monotonic seconds; None between sends."""

    def send(self, body: Body, key: Hashable | None = None) -> None:
        """Queue a message that belongs to no stream and has no `seq`; never block.

        With a `key` the message replaces the one that waits under that key.
        """
        self.queue.put(_encode(body), key)

    async def run(self) -> None:
        """Send until the connection is closed."""
        with suppress(ConnectionClosed):
            while True:
                data = await self.queue.get()
                if self.queue.dropped:
                    dropped, self.queue.dropped = self.queue.dropped, 0
                    self._metrics.dropped("ws", dropped)
                    await self._write(_encode({"type": "lagged", "dropped": dropped}))
                await self._write(data)
                self._metrics.sent("ws")

    async def close(self, error: ProtocolError) -> None:
        """Close with the error's code once the queue is sent; abort after `CLOSE_TIMEOUT_S`."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.queue.emptied()
                await self._socket.close(error.close_code, error.code)
        except TimeoutError:
            self._socket.transport.abort()

    async def _write(self, data: bytes) -> None:
        self.sending_since = time.monotonic()
        await self._socket.send(data, text=True)
        self.sending_since = None


def _encode(body: Body) -> bytes:
    head = {"type": body["type"], "v": VERSION, "ts": timestamp(time.time())}
    return orjson.dumps({**head, **body})
