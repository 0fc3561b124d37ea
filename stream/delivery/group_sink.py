"""Sink that keeps the summaries of all groups, for `GET /v1/groups`."""

from __future__ import annotations

import time
from collections.abc import Callable

from stream.delivery.groups import Groups
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import EncodedEvent
from stream.protocol.wire.groups import GroupList
from stream.tenants import Principal


class GroupSink:
    """A `Sink` without a destination: its summaries are fetched."""

    def __init__(self, min_group: int, clock: Callable[[], float] = time.time) -> None:
        self._groups = Groups(min_group)
        self._clock = clock

    def list(self, principal: Principal) -> GroupList:
        """Return the groups that a principal may see."""
        return {"groups": [*self._groups.visible(principal, self._clock())]}

    def opened(self, stream: LiveStream) -> None:
        self._groups.opened(stream, self._clock())

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        self._groups.event(stream, event, self._clock())

    def changed(self, stream: LiveStream) -> None:
        self._groups.changed(stream, self._clock())

    def closed(self, stream: LiveStream) -> None:
        self._groups.closed(stream, self._clock())

    async def run(self) -> None:
        """Return at once: there is nothing to deliver."""

    async def stop(self, timeout_s: float) -> None:
        """Return at once."""
