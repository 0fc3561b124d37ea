"""The place of one channel in the scheduler."""

from __future__ import annotations

from typing import Protocol

from stream.tenants import DEFAULT
from stream.types import FrameScores, GapReason, Window


class Listener(Protocol):
    """Receives the outcome of every window offered to a slot; called on the event loop."""

    def window_taken(self, window: Window) -> None:
        """Handle that a model starts on `window`: nothing replaces it now, and the slot is free."""
        ...

    def window_scored(self, scores: FrameScores, waited_s: float) -> None:
        """Handle the logits of a window, `waited_s` seconds after it was offered."""
        ...

    def window_failed(self, window: Window, reason: GapReason) -> None:
        """Handle that a window was taken and will never be scored."""
        ...


class WindowQueue(Protocol):
    """Queue of the windows of all slots, one each."""

    def put(self, slot: Slot, window: Window) -> Window | None: ...

    def remove(self, slot: Slot) -> None: ...

    def holds(self, slot: Slot) -> bool: ...


class Slot:
    """The place of one channel in the scheduler: at most one window waits and one is in flight.

    So results come back in the order of the windows, whatever the engine does. `embed` asks for
    the features of its windows besides the logits. Slots of different tenants take turns.
    """

    __slots__ = ("_queue", "embed", "listener", "tenant", "withdrawn")

    def __init__(
        self,
        queue: WindowQueue,
        listener: Listener,
        embed: bool = False,
        tenant: str = DEFAULT,
    ) -> None:
        self._queue = queue
        self.listener = listener
        self.embed = embed
        self.tenant = tenant
        self.withdrawn = False

    @property
    def waiting(self) -> bool:
        """True while a window of this channel waits to be taken."""
        return self._queue.holds(self)

    def offer(self, window: Window) -> Window | None:
        """Queue a window for scoring; return the waiting window that it replaces, or None."""
        return self._queue.put(self, window)

    def withdraw(self) -> None:
        """Drop the waiting window; the listener gets no more callbacks, also for one in flight."""
        self.withdrawn = True
        self._queue.remove(self)
