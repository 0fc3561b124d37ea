"""The place of one channel in the scheduler."""

from __future__ import annotations

import asyncio
from typing import Protocol

from stream.types import FrameScores, GapReason, Window


class Listener(Protocol):
    """Receives the outcome of every window offered to a slot; called on the event loop."""

    def window_taken(self, window: Window) -> None: ...

    def window_scored(self, scores: FrameScores, waited_s: float) -> None: ...

    def window_failed(self, window: Window, reason: GapReason) -> None: ...


class WindowQueue(Protocol):
    """Queue of the windows of all slots, one each."""

    def put(self, slot: Slot, window: Window) -> Window | None: ...

    def remove(self, slot: Slot) -> bool: ...

    def holds(self, slot: Slot) -> bool: ...


class Slot:
    """The place of one channel in the scheduler; at most one window waits in it.

    `embed` asks for the features of its windows besides the logits.
    """

    def __init__(self, queue: WindowQueue, listener: Listener, embed: bool = False) -> None:
        self._queue = queue
        self.listener = listener
        self.embed = embed
        self.withdrawn = False
        self._unfinished = 0
        """Windows that were offered and neither scored, failed, replaced nor withdrawn."""
        self._free = asyncio.Event()
        self._free.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, window: Window) -> Window | None:
        """Queue a window for scoring; return the waiting window that it replaces, or None."""
        self._free.clear()
        self._idle.clear()
        replaced = self._queue.put(self, window)
        if replaced is None:
            self._unfinished += 1
        return replaced

    def withdraw(self) -> None:
        """Drop the waiting window; the listener gets no more callbacks, also for one in flight."""
        self.withdrawn = True
        if self._queue.remove(self):
            self.mark_finished()
        self._free.set()

    async def wait_free(self, timeout: float) -> bool:
        """Wait until no window of this channel waits to be taken; False after `timeout` seconds."""
        return await _wait(self._free, timeout)

    async def wait_idle(self, timeout: float) -> bool:
        """Wait until no window of this channel waits or is being scored; False as above."""
        return await _wait(self._idle, timeout)

    def skip_waiting(self) -> None:
        """Make pending calls of `wait_free` return at once."""
        self._free.set()

    def mark_taken(self, window: Window) -> None:
        """Report that the scheduler took `window`; a newer one may be waiting already."""
        if not self.withdrawn:
            self.listener.window_taken(window)
        if not self._queue.holds(self):
            self._free.set()

    def mark_finished(self) -> None:
        """Count one offered window as finished: it was scored, failed or withdrawn."""
        self._unfinished -= 1
        if not self._unfinished:
            self._idle.set()


async def _wait(event: asyncio.Event, timeout: float) -> bool:
    if event.is_set():
        return True
    try:
        # Not wait_for: Python 3.11's loses a cancellation that arrives as the wait ends.
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True
