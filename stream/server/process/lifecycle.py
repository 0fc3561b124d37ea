"""Life cycle of the process, as every part of the server sees it."""

from __future__ import annotations

import asyncio
from enum import Enum, auto


class Phase(Enum):
    """Phases in order; there is no way back."""

    LOADING = auto()
    """The port is open, the model is not ready."""
    SERVING = auto()
    DRAINING = auto()
    """Streams end; new connections are refused."""


class Lifecycle:
    """The phase of the process, and the wait for its end."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self._stopping = asyncio.Event()

    def serve(self) -> None:
        """Enter SERVING, unless the process is draining already."""
        if self.phase is Phase.LOADING:
            self.phase = Phase.SERVING

    def drain(self) -> None:
        """Enter DRAINING."""
        self.phase = Phase.DRAINING
        self._stopping.set()

    @property
    def draining(self) -> bool:
        return self.phase is Phase.DRAINING

    async def wait_draining(self) -> None:
        """Wait until the process drains."""
        await self._stopping.wait()
