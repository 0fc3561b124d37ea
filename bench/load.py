"""Producers in real time, and a subscriber that records when their scores arrive."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.process import Server
from bench.speech import Wire

WARM_UP_S = 4.0
"""Measurements start after this time, because the first windows of all streams coincide."""


@dataclass(slots=True, eq=False)
class Producer:
    """Stream that plays a recording in a loop, starting at the chunk `offset`."""

    name: str
    recording: Sequence[bytes]
    offset: int
    sent: list[float] = field(default_factory=list)
    """Time at which each chunk was written, in monotonic seconds."""
    gaps: int = 0
    warnings: int = 0
    totals: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the connection, if not those of the server's other streams."""
    socket: ClientConnection = field(init=False)
    _reading: asyncio.Task[None] = field(init=False)

    async def open(self, server: Server, wire: Wire, **query: object) -> None:
        """Connect and begin the session; `query` adds parameters."""
        parameters = {
            "sample_rate": wire.sample_rate,
            "encoding": wire.encoding,
            "stream_id": self.name,
            "results": "false",
            **query,
        }
        url = f"{server.ws}/v1/stream?{urlencode(parameters)}"
        self.socket = await connect(
            url,
            compression=None,
            max_queue=None,
            proxy=None,
            additional_headers=self.headers or server.headers,
        )
        self._reading = asyncio.create_task(self._read())

    def send(self) -> None:
        """Write the next chunk as a whole frame, so that pings of the library fit in between."""
        if self.socket.transport.is_closing():
            return
        at = (self.offset + len(self.sent)) % len(self.recording)
        self.sent.append(time.monotonic())
        self.socket.transport.write(self.recording[at])

    @property
    def close_reason(self) -> str | None:
        """Reason of the close if the server has ended the connection, else None."""
        return self.socket.close_reason if self.socket.transport.is_closing() else None

    async def close(self) -> None:
        """End the session and wait for its totals."""
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send('{"type":"session.close"}')
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                event = orjson.loads(text)
                match event["type"]:
                    case "stream.gap":
                        self.gaps += 1
                    case "warning" | "error":
                        self.warnings += 1
                    case "session.closed":
                        self.totals = event["totals"]


def make_producers(
    count: int, recorded: Sequence[Sequence[bytes]], prefix: str = "stream"
) -> dict[str, Producer]:
    """Return `count` producers by name, with different recordings and starting points."""
    producers = {}
    for number in range(count):
        recording = recorded[number % len(recorded)]
        # The golden ratio spreads any number of starting points evenly.
        offset = int(number * 0.618034 % 1 * len(recording))
        name = f"{prefix}-{number}"
        producers[name] = Producer(name, recording, offset)
    return producers


@dataclass(frozen=True, slots=True)
class Arrival:
    """Arrival of a score at a subscriber, in monotonic seconds, and its latency.

    The latency is the time since the last sample of the window was sent.
    """

    at: float
    latency_ms: float
    trigger: str


class ScoreSubscriber:
    """Subscriber of all scores."""

    def __init__(self, producers: Mapping[str, Producer], chunk_ms: int) -> None:
        self._producers = producers
        self._chunk_ms = chunk_ms
        self.arrivals: list[Arrival] = []

    async def open(self, server: Server) -> None:
        message = {"type": "subscribe", "snapshot": False, "filter": {"events": ["emotion.score"]}}
        self.socket = await subscribe(server, message)
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        await self.socket.close()
        await self._reading

    def latencies(
        self, since: float, until: float = float("inf"), trigger: str = "interval"
    ) -> list[float]:
        """Return the latencies, in ms, of the scores that arrived in `[since, until)`."""
        return [
            arrival.latency_ms
            for arrival in self.arrivals
            if since <= arrival.at < until and arrival.trigger == trigger
        ]

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                now, event = time.monotonic(), orjson.loads(text)
                producer = self._producers.get(event.get("stream_id", ""))
                if event["type"] != "emotion.score" or producer is None:
                    continue
                chunk = (event["audio_end_ms"] - 1) // self._chunk_ms
                latency_ms = (now - producer.sent[chunk]) * 1000
                self.arrivals.append(Arrival(now, latency_ms, event["trigger"]))


async def subscribe(server: Server, message: Mapping[str, Any]) -> ClientConnection:
    """Return a connection that is subscribed with `message`."""
    socket = await connect(
        f"{server.ws}/v1/subscribe",
        compression=None,
        max_queue=None,
        proxy=None,
        additional_headers=server.headers,
    )
    await socket.send(orjson.dumps(message), text=True)
    await socket.recv()
    return socket


class Load:
    """Streams played in real time by one task on an absolute schedule, chunks evenly spaced."""

    def __init__(self, server: Server, producers: Mapping[str, Producer], wire: Wire) -> None:
        self._server = server
        self.producers = producers
        self._wire = wire
        self.lags: list[float] = []
        """Delay of each chunk behind its schedule, in seconds."""

    async def start(self, **query: object) -> None:
        for producer in self.producers.values():
            await producer.open(self._server, self._wire, **query)
        self._playing = asyncio.create_task(self._play())

    async def stop(self) -> None:
        """Stop playing and close all sessions."""
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)
        await asyncio.gather(*(p.close() for p in self.producers.values()))

    async def _play(self) -> None:
        start, chunk_s = time.monotonic(), self._wire.chunk_s
        for tick in itertools.count() if self.producers else ():
            for number, producer in enumerate(self.producers.values()):
                due = start + (tick + number / len(self.producers)) * chunk_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.lags.append(time.monotonic() - due)
                producer.send()

    def total(self, key: str) -> int:
        """Return the sum of a field of the totals in `session.closed` over all streams."""
        return sum(p.totals.get(key, 0) for p in self.producers.values())
