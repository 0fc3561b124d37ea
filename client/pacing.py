"""Playing at the speed of sound in time: an absolute schedule, so that nothing drifts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pacing:
    """Says when audio is due. `speed` 1 is real time, 2 twice as fast, 0 as fast as it goes.

    The schedule starts at the first call; being late once shortens the waits after it.
    """

    def __init__(
        self,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._start: float | None = None

    async def until(self, position_s: float) -> None:
        """Wait until the audio at `position_s` seconds is due."""
        if self._start is None:
            self._start = self._clock()
        if self._speed:
            ahead = self._start + position_s / self._speed - self._clock()
            if ahead > 0:
                await self._sleep(ahead)
