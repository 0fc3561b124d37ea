"""The way out of one WebSocket: a bounded queue, a writer of its own, a last word."""

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
from stream.protocol.parsing import VERSION
from stream.telemetry.metrics import Metrics
from stream.types import Body, timestamp

GOODBYE_S = 5.0
"""How long a peer may take to read what is left and to close."""


class Outbox:
    """Sends what is put into `queue`, one message after the other; a slow reader blocks only us.

    `run` it in a task. What the queue dropped is told as `lagged` before the next message.
    """

    def __init__(self, socket: ServerConnection, bound: int, metrics: Metrics) -> None:
        self._socket = socket
        self._metrics = metrics
        self.queue: ConflatingQueue[bytes] = ConflatingQueue(bound)
        self.sending_since: float | None = None
        """When the message began that the peer has not taken yet (monotonic seconds)."""

    def say(self, body: Body, key: Hashable | None = None) -> None:
        """Queue a message that belongs to no stream and has no `seq`; never blocks.

        With a `key` it takes the place of the one that waits under that key.
        """
        self.queue.put(_encode(body), key)

    async def run(self) -> None:
        """Send until the connection is closed."""
        with suppress(ConnectionClosed):
            while True:
                data = await self.queue.get()
                if self.queue.dropped:
                    lost, self.queue.dropped = self.queue.dropped, 0
                    self._metrics.lost("ws", lost)
                    await self._send(_encode({"type": "lagged", "dropped": lost}))
                await self._send(data)
                self._metrics.sent("ws")

    async def goodbye(self, error: ProtocolError) -> None:
        """Close with the error's code once the peer has read what is left, or without it."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self.queue.emptied()
                await self._socket.close(error.close_code, error.code)
        except TimeoutError:
            self._socket.transport.abort()

    async def _send(self, data: bytes) -> None:
        self.sending_since = time.monotonic()
        await self._socket.send(data, text=True)
        self.sending_since = None


def _encode(body: Body) -> bytes:
    head = {"type": body["type"], "v": VERSION, "ts": timestamp(time.time())}
    return orjson.dumps({**head, **body})
