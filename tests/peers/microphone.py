"""A room's microphone that sends recorded speech or silence to a server, in real time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import numpy as np

from client.audio.playback import PlaybackClock
from client.remote.call import stream
from client.remote.errors import Refused, Unreachable
from tests.support.running import Server
from tests.support.utterances import RATE, talk


@contextlib.contextmanager
def microphone(server: Server, room: str) -> Iterator[threading.Event]:
    """Send a room's microphone in real time; it hears speech while the event is set."""
    speaking, stop = threading.Event(), threading.Event()
    speaking.set()
    words = np.frombuffer(talk(30.0), np.int16)
    noise = np.random.default_rng(1).integers(-8, 9, len(words)).astype(np.int16)
    block = RATE // 10

    async def send() -> None:
        async with stream(
            server.ws, stream_id=f"{room}-box", tags=[f"room:{room}"], takeover=True, lossy=True
        ) as call:
            clock = PlaybackClock()
            for number in itertools.count():
                if stop.is_set():
                    break
                heard = words if speaking.is_set() else noise
                at = number * block % (len(heard) - block)
                await clock.until((number + 1) * block / RATE)
                await call.send(heard[at : at + block].tobytes())

    def run() -> None:
        # After a SIGKILL of the server nothing can be closed.
        with contextlib.suppress(Unreachable, Refused, TimeoutError):
            asyncio.run(_until(send(), stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield speaking
    finally:
        stop.set()
        thread.join(20)


async def _until(work: Coroutine[Any, Any, None], stop: threading.Event) -> None:
    """Run `work`; end it some seconds after `stop`."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(asyncio.to_thread(stop.wait))
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait_for(task, 5)
