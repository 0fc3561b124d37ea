"""Bounded queue between a transport and a handler that needs time for each message."""

from __future__ import annotations

import asyncio
from collections import deque

from stream.delivery.transport import Message, Transport

HIGH_BYTES, LOW_BYTES = 2_097_152, 1_048_576
"""Bytes above which the peer is not read, and below which it is read again."""


class Inbox:
    """Messages of one connection in order, for one reader; the end of the connection comes last."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._full = False
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, message: Message) -> None:
        """Append a message; stop reading the peer if too much waits."""
        self._messages.append(message)
        self._bytes += len(message)
        if self._bytes > HIGH_BYTES and not self._full:
            self._full = True
            self._transport.pause()
        self._changed.set()

    def end(self) -> None:
        """Let `get` return None after the messages that wait."""
        self._ended = True
        self._changed.set()

    def drop(self) -> None:
        """Discard the messages that wait, and let `get` return None."""
        self._messages.clear()
        self._bytes = 0
        self.end()

    async def get(self) -> Message | None:
        """Return the next message, or None at the end of the connection."""
        while not self._messages:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        if self._full and self._bytes < LOW_BYTES:
            self._full = False
            self._transport.resume()
        return message
