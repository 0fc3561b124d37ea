"""Queue of recordings that wait for analysis, with turns of the tenants."""

from __future__ import annotations

import asyncio
from collections import Counter

Ticket = asyncio.Future[None]
"""Place of one recording in the queue; done once it is granted."""


class JobQueue:
    """Semaphore that reports positions; at most `limit` tickets are granted at a time.

    While several tenants wait, the one with the fewest granted tickets is next, and of equal ones
    the one whose turn was longest ago. Tickets of one tenant are granted in their order. If the
    queue is `shared` by several tenants, none gets the last free place beside its own tickets: the
    first recording of another one need not wait for the end of a long recording. For use on one
    event loop.
    """

    def __init__(self, limit: int, shared: bool = False) -> None:
        self._limit = limit
        self._per_tenant = max(1, limit - 1) if shared else limit
        self._waiting: dict[Ticket, str] = {}
        self._granted: dict[Ticket, str] = {}
        self._turns: dict[str, int] = {}
        """Number of the last turn of each tenant, larger for later ones."""

    def position(self, ticket: Ticket) -> int:
        """Return the position of a ticket in the queue, from 1; 0 once it is granted."""
        return self._order().index(ticket) + 1 if ticket in self._waiting else 0

    def join(self, tenant: str) -> Ticket:
        """Return a ticket that is done once it is granted; always give it back with `leave`."""
        ticket: Ticket = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = tenant
        self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give back a ticket, whether or not it was granted; a second time has no effect."""
        self._waiting.pop(ticket, None)
        self._granted.pop(ticket, None)
        self._grant()

    def _order(self) -> list[Ticket]:
        """Return the waiting tickets in the order in which they will be granted.

        A ticket's round is the number of tickets that its tenant holds once it is granted. In one
        round a tenant's first waiting ticket is before the second of another one, whose turn will
        have been later.
        """
        rounds = Counter(self._granted.values())
        ahead = Counter[str]()
        keys: dict[Ticket, tuple[int, int, int]] = {}
        for ticket, tenant in self._waiting.items():
            rounds[tenant] += 1
            keys[ticket] = rounds[tenant], ahead[tenant], self._turns.get(tenant, -1)
            ahead[tenant] += 1
        return sorted(keys, key=keys.__getitem__)

    def _grant(self) -> None:
        while len(self._granted) < self._limit and self._waiting:
            held = Counter(self._granted.values())
            ticket = self._order()[0]
            tenant = self._waiting[ticket]
            # The first in the order has the fewest, so the others have as many at least.
            if held[tenant] >= self._per_tenant:
                return
            del self._waiting[ticket]
            self._granted[ticket] = tenant
            self._turns[tenant] = max(self._turns.values(), default=-1) + 1
            ticket.set_result(None)
