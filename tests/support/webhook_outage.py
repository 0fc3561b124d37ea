"""An outage of a webhook's receiver, with a server that is killed meanwhile."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.broker import free_port
from tests.support.clients import Client, connect, stream
from tests.support.receiver import Receiver
from tests.support.running import Server, running_server, started_server
from tests.support.utterances import talk

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
RULE = "any"


@dataclass(frozen=True, slots=True)
class Outage:
    """Alerts that were raised, those of them without a beginning or an end at the receiver, and
    the seconds after its return until it had all."""

    raised: int
    lost: tuple[str, ...]
    interrupted: int
    out_of_order: int
    took_s: float


async def outage(away_s: float, patience_s: float, folder: Path) -> Outage:
    """Raise alerts for `away_s` seconds without a receiver; kill the server half-way.

    Wait at most `patience_s` seconds for all alerts after the receiver is back.
    """
    port, raised = free_port(), list[str]()
    config = f"""
[limits]
ahead_s = 1000
[alerts]
outbox = "{folder}/alerts"
[alerts.webhooks.desk]
url = "http://127.0.0.1:{port}/hook"
secret = "{SECRET}"
allow_private = true
[[alerts.rules]]
name = "{RULE}"
index = "activation"
horizon = "window"
above = 0.0001
"""
    begin = time.monotonic()
    with started_server(config=config) as server:
        _ready(server)
        async with _watching(server) as subscriber:
            await _sessions(server, begin + away_s / 2)
            async with stream(server, stream_id="open") as client:
                await client.audio(talk(4.0), 6400)
                alert = await client.until("alert", timeout=30)
                # Written in order: with this one, all before it are on the disk.
                assert await _until((folder / "alerts/desk/open" / f"{alert['id']}.msg").exists)
                server.signal(signal.SIGKILL)
                await client.closed()
            await subscriber.closed()
            raised += _new(subscriber)
        server.exit(10)
    with running_server(config=config) as server:
        async with _watching(server) as subscriber:
            await _sessions(server, begin + away_s)
            raised += _new(subscriber)
            receiver, back = Receiver(port), time.monotonic()
            try:
                await _until(lambda: not _lost(receiver, raised), patience_s)
                took_s = time.monotonic() - back
                found, lost = receiver.data(), _lost(receiver, raised)
            finally:
                receiver.close()
    first = list(dict.fromkeys(body["id"] for body in found))
    known = [name for name in first if name in raised]
    return Outage(
        raised=len(raised),
        lost=lost,
        interrupted=sum(body.get("reason") == "interrupted" for body in found),
        out_of_order=sum(a != b for a, b in zip(known, raised, strict=False)),
        took_s=took_s,
    )


def _ready(server: Server) -> None:
    server.url = server.line("ready")["url"]
    server.port = int(server.url.rstrip("/").rpartition(":")[2])


@asynccontextmanager
async def _watching(server: Server) -> AsyncIterator[Client]:
    async with connect(server, "/v1/subscribe") as subscriber:
        subscriber.checks = False
        await subscriber.send("subscribe", filter={"events": ["alert"]})
        await subscriber.until("subscribed")
        yield subscriber


async def _sessions(server: Server, until: float) -> None:
    """Run sessions that raise one alert each, until a time, at least one."""
    while True:
        async with stream(server) as client:
            client.checks = False
            await client.audio(talk(4.0), 6400)
            await client.until("alert", timeout=60)
            await client.close_session(60)
        if time.monotonic() > until:
            return
        await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))


def _new(subscriber: Client) -> list[str]:
    return [event["id"] for event in subscriber.of("alert") if event["state"] == "new"]


def _lost(receiver: Receiver, raised: list[str]) -> tuple[str, ...]:
    states: dict[str, set[str]] = {}
    for body in receiver.data():
        states.setdefault(body["id"], set()).add(body["state"])
    return tuple(name for name in raised if not {"new", "end"} <= states.get(name, set()))


async def _until(condition: Any, timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
