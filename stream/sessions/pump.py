"""Pump of gathered audio: all streams one after the other, a few milliseconds at a time.

Tenants take turns, so that the many streams of one do not delay those of another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from stream.tenants import DEFAULT

log = logging.getLogger(__name__)

PERIOD_S = 0.06
"""Longest wait of a message: three messages of 20 ms cost little more than one."""

SLICE_S = 0.004
"""Time after which other work of the event loop comes first."""


class Gathering(Protocol):
    """Input with audio that waits to be processed."""

    def process(self) -> None:
        """Process the audio gathered so far."""
        ...


class Pump:
    """Processes inputs that have gathered audio, `PERIOD_S` seconds after the first of them.

    Streams that are processed one after the other share the processor's caches, which makes each
    of them cheaper than alone. Use on one event loop.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Gathering]] = {}
        """Inputs by tenant; the tenant whose turn it is comes first."""
        self._timer: asyncio.Handle | None = None

    def lane(self, tenant: str) -> Lane:
        """Return the lane of a tenant."""
        return Lane(self, tenant)

    def add(self, gathering: Gathering, tenant: str = DEFAULT) -> None:
        """Process an input in time; call it once for each time that it begins to gather."""
        self._lanes.setdefault(tenant, deque()).append(gathering)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._run)

    def _run(self) -> None:
        """Process the inputs added so far; new ones wait for their own turn."""
        self._timer = None
        end = time.monotonic() + SLICE_S
        for _ in range(sum(map(len, self._lanes.values()))):
            try:
                self._next().process()
            except Exception:
                log.exception("audio not processed")
            if time.monotonic() > end:
                break
        if self._lanes:
            self._timer = asyncio.get_running_loop().call_soon(self._run)

    def _next(self) -> Gathering:
        """Remove the next input of the first tenant, which then is the last."""
        tenant = next(iter(self._lanes))
        lane = self._lanes.pop(tenant)
        gathering = lane.popleft()
        if lane:
            self._lanes[tenant] = lane
        return gathering


@dataclass(frozen=True, slots=True)
class Lane:
    """The way of one tenant's inputs into the pump."""

    pump: Pump
    tenant: str

    def add(self, gathering: Gathering) -> None:
        """Process an input in time; see `Pump.add`."""
        self.pump.add(gathering, self.tenant)
