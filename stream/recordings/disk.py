"""The one thread that touches the disk, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from stream.protocol.errors import ProtocolError

P = ParamSpec("P")
T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskExecutor:
    """Runs blocking calls one after the other, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "emotide-disk")

    async def run(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `what` returns, or raises."""
        call = self._thread.submit(what, *args, **kwargs)
        return await asyncio.wrap_future(call)

    def close(self) -> None:
        """Take no more; what was asked for is done before the process ends."""
        self._thread.shutdown(wait=False)


def disk_trouble(error: OSError) -> ProtocolError:
    """What a client is told when a result cannot be written."""
    if error.errno in FULL:
        return ProtocolError(
            "disk_full",
            "the server's disk is full: try again later, or tell its operator",
            fatal=False,
            retry_after_s=60.0,
        )
    return ProtocolError(
        "internal_error", "the result could not be written: tell the operator", fatal=False
    )
