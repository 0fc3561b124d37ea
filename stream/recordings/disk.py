"""Executor for disk access in one thread, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from stream.protocol.errors import ProtocolError

P = ParamSpec("P")
T = TypeVar("T")

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskExecutor:
    """Runs blocking calls one after the other, in the order of submission."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "emotide-disk")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in the thread; return its result or raise its exception."""
        call = self._thread.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(call)

    async def release(self, function: Callable[[], None]) -> None:
        """Call `function` in the thread, also if the caller is cancelled before its turn comes.

        After `close` it is called at once: a connection that outlasts the drain still owns files.
        """
        try:
            call = self._thread.submit(function)
        except RuntimeError:  # The thread accepts no more calls.
            function()
            return
        await asyncio.shield(asyncio.wrap_future(call))

    async def acquire(self, make: Callable[[], T], release: Callable[[T], None]) -> T:
        """Call `make` in the thread; return what it made, or raise its exception.

        The thread cannot be interrupted. If the caller is cancelled meanwhile, nobody would own
        what is made, so `release` is called with it.
        """
        call = self._thread.submit(make)

        def unwanted(done: Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                release(done.result())

        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            call.add_done_callback(unwanted)
            raise

    def close(self) -> None:
        """Accept no more calls; those submitted are done before the process exits."""
        self._thread.shutdown(wait=False)


def disk_error(error: OSError) -> ProtocolError:
    """Return the error for a client whose result cannot be written."""
    if error.errno in DISK_FULL:
        return ProtocolError(
            "disk_full",
            "the server's disk is full: try again later, or contact its operator",
            fatal=False,
            retry_after_s=60.0,
        )
    return ProtocolError(
        "internal_error", "the result could not be written: contact the operator", fatal=False
    )
