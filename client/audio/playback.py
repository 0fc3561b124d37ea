"""Playing at the speed of sound in time: an absolute schedule, so that nothing drifts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from client.audio.encoders import ENCODERS
from client.remote.call import ENDED, Call
from client.remote.errors import Refused
from client.remote.event_queue import Event
from stream.audio.decode import Pcm
from stream.types import Encoding


class PlaybackClock:
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


Tell = Callable[[Event], None]


async def play(
    call: Call,
    pieces: Iterator[Pcm],
    sample_rate: int,
    encoding: Encoding,
    pacing: PlaybackClock,
    stop: asyncio.Event,
) -> None:
    """Send each piece when its last sample would have been heard, until `stop` is set."""
    encode, position = ENCODERS[encoding], 0
    for piece in pieces:
        position += len(piece)
        await pacing.until(position / sample_rate)
        if stop.is_set():
            return
        await call.send(encode(piece))


async def run_call(call: Call, playing: Callable[[], Awaitable[None]], tell: Tell) -> Event:
    """Play and listen at once; returns `session.closed`. Raises as `Call` does."""

    async def listen() -> None:
        async for event in call:
            tell(event)

    async with call:
        listening = asyncio.create_task(listen())
        try:
            try:
                await playing()
            except Refused as refused:
                if refused.code != ENDED:
                    raise
            closed = await call.close()
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return closed
