"""A channel's place in the batcher's waiting room."""

from __future__ import annotations

import asyncio
from typing import Protocol

from stream.types import FrameScores, GapReason, Window


class Listener(Protocol):
    """Who offered a window; called on the event loop."""

    def taken(self, window: Window) -> None: ...

    def scored(self, scores: FrameScores, waited_s: float) -> None: ...

    def failed(self, window: Window, reason: GapReason) -> None: ...


class WindowQueue(Protocol):
    """Where the windows of all slots wait, one each."""

    def put(self, slot: Slot, window: Window) -> Window | None: ...

    def remove(self, slot: Slot) -> bool: ...

    def holds(self, slot: Slot) -> bool: ...


class Slot:
    """The place of one channel in the batcher's waiting room; holds at most one window.

    `embed` says that its windows' features are wanted besides the logits.
    """

    def __init__(self, room: WindowQueue, listener: Listener, embed: bool = False) -> None:
        self._room = room
        self.listener = listener
        self.embed = embed
        self.withdrawn = False
        self._untold = 0
        self._free = asyncio.Event()
        self._free.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, window: Window) -> Window | None:
        """Put a window up for scoring; returns the one it replaced, if one still waited."""
        self._free.clear()
        self._idle.clear()
        replaced = self._room.put(self, window)
        if replaced is None:
            self._untold += 1
        return replaced

    def withdraw(self) -> None:
        """The channel is over: nobody will be told of what waits or is being scored."""
        self.withdrawn = True
        if self._room.remove(self):
            self.done()
        self._free.set()

    async def free(self, timeout: float) -> bool:
        """Wait until nothing of this channel waits to be taken; False after `timeout` seconds."""
        return await _within(self._free, timeout)

    async def idle(self, timeout: float) -> bool:
        """Wait until nothing of this channel waits or is being scored either."""
        return await _within(self._idle, timeout)

    def hurry(self) -> None:
        """Let whoever waits for `free` go on at once."""
        self._free.set()

    def begun(self, window: Window) -> None:
        """The batcher took `window`; a newer one may wait already."""
        if not self.withdrawn:
            self.listener.taken(window)
        if not self._room.holds(self):
            self._free.set()

    def done(self) -> None:
        """One of the windows offered needs nothing any more: it was told, or withdrawn."""
        self._untold -= 1
        if not self._untold:
            self._idle.set()


async def _within(event: asyncio.Event, timeout: float) -> bool:
    if event.is_set():
        return True
    try:
        # Not wait_for: Python 3.11's forgets a cancellation that comes as the wait ends.
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True
