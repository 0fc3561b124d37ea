"""Return of freed memory to the system.

glibc keeps what was freed for later use. After 200 clients that each filled their buffers had
vanished, the process was as large as before.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

MMAP_BYTES = 262_144
"""Buffers of this size and above get memory of their own, which is returned at once."""

SAMPLE_S, PERIOD_S = 0.5, 5.0
MIN_CLOSED = 10
"""Connections that must have ended for the rest to be returned; that takes some milliseconds."""

_M_MMAP_THRESHOLD = -3


def _libc() -> ctypes.CDLL | None:
    """Return glibc, or None on other systems."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):
        return None


class FreedMemory:
    """Returns freed memory after connections have ended; `count` returns the open ones."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._open = 0
        self._closed = 0
        self._library = _libc()
        if self._library is not None:
            self._library.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)

    async def run(self) -> None:
        """Return memory until cancelled."""
        due = 0
        while self._library is not None:
            await asyncio.sleep(SAMPLE_S)
            now_open = self._count()
            self._closed += max(0, self._open - now_open)
            self._open = now_open
            due += 1
            if due * SAMPLE_S >= PERIOD_S and self._closed >= MIN_CLOSED:
                self._closed = due = 0
                await asyncio.to_thread(self._library.malloc_trim, 0)
