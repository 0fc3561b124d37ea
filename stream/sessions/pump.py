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

LONGEST_S = 0.8
"""Longest wait of a message for those with which an event may be due."""

BATCH_S = 0.06
"""Longest wait of an input that is due, for others to be processed with it."""

BATCH_PER_INPUT_S = 1.25e-4
"""That wait for each input a second: 60 ms for 200 telephone calls, 8 ms for 25.

Few streams have no need to save the processor's time, and their events come sooner.
"""

MEASURE_S = 1.0
"""Seconds over which the inputs are counted."""

SLICE_S = 0.004
"""Time after which other work of the event loop comes first."""


class Gathering(Protocol):
    """Input with audio that waits to be processed."""

    def process(self) -> None:
        """Process the audio gathered so far."""
        ...


class Pump:
    """Processes inputs that have gathered audio: soon once they are due, and all in time.

    Streams that are processed one after the other share the processor's caches, which makes each
    of them cheaper than alone. Use on one event loop.
    """

    def __init__(self) -> None:
        self._waiting: dict[Gathering, tuple[float, str]] = {}
        """Latest time to process each input that is not due (of the loop), and its tenant."""
        self._lanes: dict[str, deque[Gathering]] = {}
        """Inputs that are due, by tenant; the tenant whose turn it is comes first."""
        self._batch_s = 0.0
        self._processed = 0
        """Inputs since `_counts_since`."""
        self._counts_since = float("-inf")
        self._alarm: asyncio.Handle | None = None
        self._timer: asyncio.Handle | None = None

    def lane(self, tenant: str) -> Lane:
        """Return the lane of a tenant."""
        return Lane(self, tenant)

    def add(self, gathering: Gathering, tenant: str = DEFAULT) -> None:
        """Process an input within `LONGEST_S` seconds; call it once when it begins to gather."""
        loop = asyncio.get_running_loop()
        self._waiting[gathering] = loop.time() + LONGEST_S, tenant
        if self._alarm is None:
            self._alarm = loop.call_later(LONGEST_S, self._end_waiting)

    def hasten(self, gathering: Gathering, tenant: str = DEFAULT) -> None:
        """Process an input within `BATCH_S` seconds, whether it waits or not."""
        self._waiting.pop(gathering, None)
        self._lanes.setdefault(tenant, deque()).append(gathering)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch_s, self._run)

    def _end_waiting(self) -> None:
        """Hasten the inputs whose time has come; they are the first ones."""
        self._alarm = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for gathering, (latest, tenant) in list(self._waiting.items()):
            if latest > now:
                self._alarm = loop.call_at(latest, self._end_waiting)
                break
            self.hasten(gathering, tenant)

    def _run(self) -> None:
        """Process the inputs that are due; new ones wait for their own turn."""
        self._timer = None
        end = time.monotonic() + SLICE_S
        for _ in range(sum(map(len, self._lanes.values()))):
            self._processed += 1
            try:
                self._next().process()
            except Exception:
                log.exception("audio not processed")
            if time.monotonic() > end:
                break
        self._set_batch()
        if self._lanes:
            self._timer = asyncio.get_running_loop().call_soon(self._run)

    def _set_batch(self) -> None:
        """Adapt the wait to the inputs of the last second."""
        now = asyncio.get_running_loop().time()
        passed = now - self._counts_since
        if passed >= MEASURE_S:
            self._batch_s = min(BATCH_S, BATCH_PER_INPUT_S * self._processed / passed)
            self._processed, self._counts_since = 0, now

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

    def hasten(self, gathering: Gathering) -> None:
        """Process an input soon; see `Pump.hasten`."""
        self.pump.hasten(gathering, self.tenant)
