"""Bounded queue of events for a reader that may be slow or absent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from client.remote.events import Event

MAX_EVENTS = 10_000


class EventQueue:
    """Bounded queue that never blocks the writer: it drops the oldest events and counts them."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        """Append `event`; drop the oldest one if the queue is full."""
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        """End the iteration after the events that are queued."""
        self._ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield all events until the end, and `client.lagged` {dropped} where some are missing."""
        while True:
            while self._events:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    yield {"type": "client.lagged", "dropped": dropped}
                yield self._events.popleft()
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
