"""Raw WebSocket client for tests that validates every event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed

from tests.support.contract import Direction, validate
from tests.support.running import PATIENCE_S, Event, Server
from tests.support.utterances import RATE


class Client:
    """One WebSocket, whose own task receives and validates every event."""

    def __init__(self, socket: ClientConnection, direction: Direction) -> None:
        self.socket = socket
        self.checks = True
        """True if events are validated against the contract; False where time matters."""
        self._direction = direction
        self.events: list[Event] = []
        self.times: list[float] = []
        self._changed = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                assert isinstance(text, str), "the server never sends binary"
                event = orjson.loads(text)
                if self.checks:
                    validate(event, self._direction)
                async with self._changed:
                    self.events.append(event)
                    self.times.append(time.monotonic())
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def send(self, event_type: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": event_type, **fields}).decode())

    async def text(self, text: str) -> None:
        await self.socket.send(text)

    async def audio(self, data: bytes, chunk: int = 3200, pace_s: float = 0.0) -> None:
        """Send `data` in messages of `chunk` bytes, `pace_s` seconds apart."""
        due = time.monotonic()
        for begin in range(0, len(data), chunk):
            await self.socket.send(data[begin : begin + chunk])
            if pace_s:
                due += pace_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def of(self, *event_types: str) -> list[Event]:
        return [event for event in self.events if event["type"] in event_types]

    async def until(
        self, wanted: str | Callable[[Event], bool], count: int = 1, timeout: float = PATIENCE_S
    ) -> Event:
        """Wait for the `count`-th event of a type, or that a predicate accepts; return it."""

        def matches(event: Event) -> bool:
            return event["type"] == wanted if isinstance(wanted, str) else wanted(event)

        async def find() -> Event:
            async with self._changed:
                while True:
                    matching = [event for event in self.events if matches(event)]
                    if len(matching) >= count:
                        return matching[count - 1]
                    if self.reader.done():
                        self.reader.result()
                        raise AssertionError(f"closed ({self.code}) without {wanted}: {self}")
                    await self._changed.wait()

        try:
            return await asyncio.wait_for(find(), timeout)
        except TimeoutError:
            raise AssertionError(f"no {wanted} (x{count}) in {timeout} s: {self}") from None

    async def closed(self, timeout: float = PATIENCE_S) -> int | None:
        """Wait until the server has closed; return the close code."""
        try:
            await asyncio.wait_for(asyncio.shield(self.reader), timeout)
        except TimeoutError:
            raise AssertionError(f"not closed in {timeout} s: {self}") from None
        await self.socket.wait_closed()
        return self.code

    async def close_session(self, timeout: float = PATIENCE_S) -> Event:
        """End the stream with `session.close`; return the `session.closed` event."""
        await self.send("session.close")
        assert await self.closed(timeout) == 1000, str(self)
        assert self.events[-1]["type"] == "session.closed", str(self)
        return self.events[-1]

    async def abort(self) -> None:
        """Break the connection without a close frame."""
        self.socket.transport.abort()
        await self.socket.wait_closed()

    @property
    def code(self) -> int | None:
        return self.socket.close_code

    @property
    def token(self) -> str:
        return str(next(e["resume_token"] for e in self.events if "resume_token" in e))

    def __str__(self) -> str:
        last = [{k: v for k, v in e.items() if k in BRIEF} for e in self.events[-12:]]
        return json.dumps(last)


DIRECTIONS: Mapping[str, Direction] = {
    "/v1/subscribe": "to_subscriber",
    "/v1/files": "to_uploader",
}

BRIEF = ("type", "seq", "code", "message", "fatal", "reason", "audio_ms", "trigger", "sub")


@contextlib.asynccontextmanager
async def connect(
    server: Server,
    path: str = "/v1/stream",
    query: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """Connect a client to `path`; abort it at the end of the block if it is still open."""
    url = server.ws + path + (f"?{urlencode(query)}" if query else "")
    options = {"compression": None, "max_size": None, "max_queue": None, **options}
    socket = await websocket(url, open_timeout=PATIENCE_S, close_timeout=5, **options)
    client = Client(socket, DIRECTIONS.get(path, "to_producer"))
    try:
        yield client
    finally:
        if not client.reader.done():
            client.socket.transport.abort()
        await asyncio.wait([client.reader], timeout=5)
        if client.reader.done():
            client.reader.result()


def stream(server: Server, **query: Any) -> contextlib.AbstractAsyncContextManager[Client]:
    """Connect a producer configured by its URL: linear16 at 16 kHz by default."""
    return connect(server, query={"sample_rate": RATE, **query})


@contextlib.asynccontextmanager
async def subscriber(server: Server, **subscribe: Any) -> AsyncIterator[Client]:
    """Connect a subscriber and wait until its first subscription is active."""
    async with connect(server, "/v1/subscribe") as client:
        await client.send("subscribe", **{"id": "s1", **subscribe})
        await client.until("subscribed")
        yield client
