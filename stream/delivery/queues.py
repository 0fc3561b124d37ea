"""Conflating queue and throttle: bounded, and the newest item per key replaces older ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def _length(item: object) -> int:
    """Return the length of a string or of bytes; an item of another kind counts nothing."""
    return len(item) if isinstance(item, str | bytes) else 0


class ConflatingQueue(Generic[T]):
    """FIFO queue for one consumer. An item with a key replaces the one that waits under that key.

    At most `bound` items without a key wait, and items of at most `max_bytes` bytes in all, as
    `size` counts them. Beyond that the oldest minor item is dropped, without one the oldest item
    without a key, and counted in `dropped`. Items with keys are bounded by the number of keys.
    `put` never blocks.
    """

    def __init__(
        self,
        bound: int,
        max_bytes: int | None = None,
        size: Callable[[T], int] = _length,
    ) -> None:
        self._bound = bound
        self._max_bytes = max_bytes
        self._size = size
        self._bytes = 0
        self._items: dict[Hashable, T] = {}
        self._plain: deque[object] = deque()
        self._minor: deque[object] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Bytes of the items that wait."""
        return self._bytes

    def put(self, item: T, key: Hashable | None = None, minor: bool = False) -> None:
        """Append an item, or replace the one that waits under `key` in its place.

        `minor`: an item without a key that is dropped before those that are not.
        """
        if key is None:
            key = object()
            (self._minor if minor else self._plain).append(key)
        elif key in self._items:
            self._bytes -= self._size(self._items[key])
        self._items[key] = item
        self._bytes += self._size(item)
        while (self._minor or self._plain) and self._is_over():
            oldest = (self._minor or self._plain).popleft()
            self._bytes -= self._size(self._items.pop(oldest))
            self.dropped += 1
        self._filled.set()
        self._emptied.clear()

    def _is_over(self) -> bool:
        over = self._max_bytes is not None and self._bytes > self._max_bytes
        waiting = len(self._plain) + len(self._minor)
        return waiting > self._bound or (over and waiting > 1)

    def pop(self) -> T:
        """Remove and return the oldest item. Raises `KeyError` if the queue is empty."""
        if not self._items:
            raise KeyError("the queue is empty")
        key = next(iter(self._items))
        for keys in (self._plain, self._minor):
            if keys and keys[0] is key:
                keys.popleft()
        item = self._items.pop(key)
        self._bytes -= self._size(item)
        if not self._items:
            self._emptied.set()
        return item

    async def get(self) -> T:
        """Wait for an item, then remove and return it."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self.pop()

    async def emptied(self) -> None:
        """Wait until the queue is empty."""
        await self._emptied.wait()


class Throttle(Generic[T]):
    """Rate limiter: one item per key passes every `period_s` seconds; later ones conflate."""

    def __init__(self, period_s: float) -> None:
        self._period = period_s
        self._next: dict[Hashable, float] = {}
        self._held: dict[Hashable, T] = {}

    def offer(self, key: Hashable, item: T, now: float) -> bool:
        """Return whether `item` may pass at `now` (monotonic seconds); otherwise hold it.

        The held item replaces an older one of the same key.
        """
        if now < self._next.get(key, 0.0):
            self._held[key] = item
            return False
        self._held.pop(key, None)
        self._next[key] = now + self._period
        return True

    def due(self, now: float) -> Iterator[tuple[Hashable, T]]:
        """Remove and yield the held items that may pass at `now`, with their keys."""
        for key in [k for k in self._held if now >= self._next[k]]:
            self._next[key] = now + self._period
            yield key, self._held.pop(key)

    def next_due(self) -> float | None:
        """Return when the next held item may pass (monotonic seconds); None if none is held."""
        return min((self._next[key] for key in self._held), default=None)

    def forget(self, key: Hashable) -> T | None:
        """Drop the state of a key that is no longer used; return the held item, if any."""
        self._next.pop(key, None)
        return self._held.pop(key, None)
