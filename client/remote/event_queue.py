"""Events that wait for their reader, who may be slow or away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

Event = dict[str, Any]

MAX_EVENTS = 10_000


class EventQueue:
    """A bounded queue that never makes the writer wait: the oldest events go, and are counted."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """All events until the end; `client.lagged` {dropped} stands where some are missing."""
        while True:
            while self._events:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    yield {"type": "client.lagged", "dropped": dropped}
                yield self._events.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()
