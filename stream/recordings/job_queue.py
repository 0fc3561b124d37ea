"""Whose turn it is: at most so many at a time, first come, first served."""

from __future__ import annotations

import asyncio


class JobQueue:
    """At most `most` tickets are good at a time. For use on one event loop."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: list[asyncio.Future[None]] = []

    def ahead(self, ticket: asyncio.Future[None]) -> int:
        """How many go before this one; 0 once it is its turn."""
        return self._waiting.index(ticket) + 1 if ticket in self._waiting else 0

    def enter(self) -> asyncio.Future[None]:
        """A ticket that is done when it is its turn; give it back with `leave`, always."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._admit()
        return ticket

    def leave(self, ticket: asyncio.Future[None]) -> None:
        """Give a ticket back, whether its turn had come or not."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket.done():
            self._free += 1
        self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.pop(0).set_result(None)
