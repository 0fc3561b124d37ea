"""Queue of recordings that wait for analysis."""

from __future__ import annotations

import asyncio


class JobQueue:
    """FIFO semaphore that reports positions; at most `limit` tickets are granted at a time.

    For use on one event loop.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: list[asyncio.Future[None]] = []
        self._granted: set[asyncio.Future[None]] = set()

    def position(self, ticket: asyncio.Future[None]) -> int:
        """Return the position of a ticket in the queue, from 1; 0 once it is granted."""
        return self._waiting.index(ticket) + 1 if ticket in self._waiting else 0

    def join(self) -> asyncio.Future[None]:
        """Return a ticket that is done once it is granted; always give it back with `leave`."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._grant()
        return ticket

    def leave(self, ticket: asyncio.Future[None]) -> None:
        """Give back a ticket, whether or not it was granted; a second time has no effect."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket in self._granted:
            self._granted.discard(ticket)
            self._free += 1
        self._grant()

    def _grant(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            ticket = self._waiting.pop(0)
            self._granted.add(ticket)
            ticket.set_result(None)
