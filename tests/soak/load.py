"""Load of a soak: producers, and a broker's view of what was published."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiomqtt
import orjson

from tests.support.clients import Client, connect
from tests.support.running import Server
from tests.support.utterances import RATE, talk

CHUNK = 6400
"""Bytes of a message: 0.2 s."""


class Through(Server):
    """The address of a proxy in front of a server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"


async def producer(server: Server, stack: AsyncExitStack, **query: object) -> Client:
    """Return a connected producer that is not validated, because a soak measures the server."""
    client = await stack.enter_async_context(
        connect(server, query={"sample_rate": RATE, **query}, ping_interval=None)
    )
    client.checks = False
    await client.until("session.created", timeout=30)
    return client


async def speak(client: Client, until: float) -> None:
    """Send speech in real time until `until` (monotonic); keep the newest events only."""
    data = talk(30.0)
    due, at = time.monotonic(), 0
    while time.monotonic() < until:
        await client.socket.send(data[at : at + CHUNK])
        at = (at + CHUNK) % (len(data) - CHUNK)
        due += CHUNK / 2 / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        del client.events[:-50], client.times[:-50]


@asynccontextmanager
async def speakers(server: Server, count: int, until: float) -> AsyncIterator[list[Client]]:
    """Run `count` producers in real time until `until`; their sessions are closed at the end."""
    async with AsyncExitStack() as stack:
        clients = [
            await producer(server, stack, stream_id=f"live-{number}") for number in range(count)
        ]
        tasks = [asyncio.create_task(speak(client, until)) for client in clients]
        yield clients
        await asyncio.gather(*tasks)
        for client in clients:
            with contextlib.suppress(AssertionError):
                await client.close_session(30)


async def retained(port: int, topic: str, wait_s: float = 2.0) -> Mapping[str, dict[str, Any]]:
    """Return the retained JSON messages of a broker under a topic filter."""
    found: dict[str, dict[str, Any]] = {}

    async def collect(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if message.payload:
                found[message.topic.value] = orjson.loads(bytes(message.payload))

    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(topic, qos=1)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(collect(client), wait_s)
    return found
