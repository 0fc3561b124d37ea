"""Turns of the tenants that share an engine. Pure: no event loop, no clock.

Start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996): a tenant's
windows have a virtual start, which is the virtual end of its window before, or the present for a
tenant that had none waiting. The smallest start is next. A tenant that offers ten times as much as
another gets as much of the engine while both wait, and all of it while the other does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from stream.inference.slot import Slot

RECENT_S = 10.0
"""Seconds after its last window for which a tenant counts as sharing the engine."""

S = TypeVar("S", bound=Slot)


class Turns:
    """Selects whose windows are next. Costs are in samples; times are monotonic seconds."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        """Virtual end of the last window of each tenant that is ahead of the present."""
        self._present = 0.0
        self._seen: dict[str, float] = {}

    def offered(self, tenant: str, now: float) -> None:
        """Note that a tenant offers a window."""
        self._seen[tenant] = now

    def shared(self, now: float) -> bool:
        """Return whether several tenants have used the engine in the last `RECENT_S` seconds."""
        if len(self._seen) > 1:
            self._seen = {name: at for name, at in self._seen.items() if now - at < RECENT_S}
        return len(self._seen) > 1

    def select(self, waiting: Mapping[S, int], limit: int) -> list[S]:
        """Return the slots of the next batch: at most `limit`, with windows of one length.

        `waiting` has the length of each window, the longest-waiting first. Charge those that are
        taken.
        """
        lanes = _by_tenant(waiting.items())
        if not lanes:
            return []
        ends = {tenant: self._start(tenant) for tenant in lanes}
        # Of equal starts the tenant that has waited longest is first, as the lanes are in order.
        first = min(ends, key=ends.__getitem__)
        length = lanes[first][0][1]
        queues = {
            tenant: iter([slot for slot, samples in lane if samples == length])
            for tenant, lane in lanes.items()
        }
        selected: list[S] = []
        while queues and len(selected) < limit:
            tenant = min(queues, key=ends.__getitem__)
            slot = next(queues[tenant], None)
            if slot is None:
                del queues[tenant]
                continue
            selected.append(slot)
            ends[tenant] += length
        return selected

    def charge(self, slots: Iterable[Slot], length: int, left: int) -> None:
        """Count windows of `length` samples that are taken, in the order of `select`.

        If none is `left`, nobody waited for another, and all begin anew.
        """
        if not left:
            self._ends.clear()
            return
        for slot in slots:
            start = self._start(slot.tenant)
            self._present = max(self._present, start)
            self._ends[slot.tenant] = start + length
        self._ends = {name: end for name, end in self._ends.items() if end > self._present}

    def _start(self, tenant: str) -> float:
        return max(self._present, self._ends.get(tenant, 0.0))


def _by_tenant(waiting: Iterable[tuple[S, int]]) -> dict[str, list[tuple[S, int]]]:
    lanes: dict[str, list[tuple[S, int]]] = {}
    for slot, length in waiting:
        lanes.setdefault(slot.tenant, []).append((slot, length))
    return lanes
