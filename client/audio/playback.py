"""Playback of recordings into calls on an absolute schedule, which does not drift."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from client.audio.encoders import ENCODERS
from client.remote.call import ENDED, Call
from client.remote.errors import Refused
from client.remote.events import Event
from stream.audio.samples import Pcm
from stream.protocol.wire.session import SessionClosed
from stream.types import Encoding


class PlaybackClock:
    """Schedule of playback. `speed` 1 is real time, 2 twice as fast, 0 without waiting.

    The schedule starts at the first `until`; after a delay, the next waits are shorter.
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


OnEvent = Callable[[Event], None]
"""Callback that receives every event of a call."""


async def play(
    call: Call,
    pieces: Iterator[Pcm],
    sample_rate: int,
    encoding: Encoding,
    clock: PlaybackClock,
    stop: asyncio.Event,
) -> None:
    """Send each piece when its last sample is due, until `stop` is set."""
    encode, position = ENCODERS[encoding], 0
    for piece in pieces:
        position += len(piece)
        await clock.until(position / sample_rate)
        if stop.is_set():
            return
        await call.send(encode(piece))


async def run_call(
    call: Call, send_audio: Callable[[], Awaitable[None]], on_event: OnEvent
) -> SessionClosed:
    """Send audio and receive events concurrently; return `session.closed`.

    Raises as `Call` does.
    """

    async def receive() -> None:
        async for event in call:
            on_event(event)

    async with call:
        receiving = asyncio.create_task(receive())
        try:
            try:
                await send_audio()
            except Refused as refused:
                if refused.code != ENDED:
                    raise
            closed = await call.close()
            await receiving
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
    return closed
