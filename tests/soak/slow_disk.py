"""Stand-in model for a server whose disk is slow: each access by the disk's thread takes longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stream.backends.base import Backend
from stream.recordings.disk import DiskExecutor
from tests.support.plugins import Fast

ACCESS_S = 0.15
"""Extra time of an access, about that of a busy network drive."""


def backend() -> Backend:
    """Return the fast model, and make the disk of this process slow."""
    run = DiskExecutor.run

    async def slow(self: DiskExecutor, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        def late() -> Any:
            time.sleep(ACCESS_S)
            return function(*args, **kw)

        return await run(self, late)

    DiskExecutor.run = slow  # type: ignore[method-assign]
    return Fast()
