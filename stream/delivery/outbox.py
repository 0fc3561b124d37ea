"""Bounded outbox of one connection, with the rule for slow readers and an orderly close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

import orjson

from stream.delivery.queues import ConflatingQueue
from stream.delivery.transport import Message, Transport
from stream.protocol.version import VERSION
from stream.protocol.wire.events import ReplyBody
from stream.telemetry.metrics import Metrics
from stream.types import timestamp

MAX_BYTES = 2_097_152
"""Bytes of messages that wait for a slow reader."""

CLOSE_TIMEOUT_S = 5.0
"""Seconds for a peer to read the queued messages and to close."""


class Outbox:
    """Messages to one connection: sent at once while the peer reads, else queued within bounds.

    At most `max_messages` messages and `MAX_BYTES` bytes wait; then the oldest is dropped. Before
    the next message, `lagged` gets the number of dropped messages. It returns the message that
    reports them, or None if the peer sees the loss from the numbers of the events.
    """

    def __init__(
        self,
        transport: Transport,
        max_messages: int,
        metrics: Metrics,
        lagged: Callable[[int], Message | None] | None = None,
    ) -> None:
        self._transport = transport
        self._metrics = metrics
        self._lagged = lagged or _lagged
        self.queue: ConflatingQueue[Message] = ConflatingQueue(max_messages, MAX_BYTES)
        self._blocked_since: float | None = None

    def put(self, message: Message, key: Hashable | None = None) -> None:
        """Send or queue a message; with a `key` it replaces the one that waits under that key."""
        if not self.queue and self._transport.writable:
            self._write(message)
            return
        before = self.queue.dropped
        self.queue.put(message, key)
        self._metrics.dropped("ws", self.queue.dropped - before)
        if self._blocked_since is None:
            self._blocked_since = time.monotonic()

    def send(self, body: ReplyBody, key: Hashable | None = None) -> None:
        """Send a message that belongs to no stream and has no `seq`."""
        self.put(encode(body), key)

    def skip(self, messages: int) -> None:
        """Report messages that were not put at all as dropped."""
        self.queue.dropped += messages
        self._metrics.dropped("ws", messages)

    def flush(self) -> None:
        """Send what waits, as far as the peer reads."""
        while self.queue and self._transport.writable:
            self._write(self.queue.pop())
        # Each message that the peer takes gives it more time.
        self._blocked_since = time.monotonic() if self.queue else None

    def _write(self, message: Message) -> None:
        if self.queue.dropped:
            dropped, self.queue.dropped = self.queue.dropped, 0
            report = self._lagged(dropped)
            if report is not None:
                self._transport.send(report)
        self._transport.send(message)
        self._metrics.sent("ws")

    def blocked_s(self) -> float:
        """Return the seconds for which the peer has not read while messages wait."""
        return 0.0 if self._blocked_since is None else time.monotonic() - self._blocked_since

    async def close(self, code: int, reason: str) -> None:
        """Close once the queue is sent, or abort if the peer does not read it in time."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.queue.emptied()
        except TimeoutError:
            self._transport.abort()
        else:
            self._transport.close(code, reason)


def encode(body: ReplyBody) -> str:
    """Encode a message with the common fields of messages that belong to no stream."""
    head = {"type": body["type"], "v": VERSION, "ts": timestamp(time.time())}
    return orjson.dumps({**head, **body}).decode()


def _lagged(dropped: int) -> Message:
    return encode({"type": "lagged", "dropped": dropped})
