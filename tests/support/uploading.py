"""Client helpers that upload recordings and download results."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.clients import Client, connect
from tests.support.running import PATIENCE_S, Event, Server

FINAL = ("file.done", "file.cancelled", "error")


@contextlib.asynccontextmanager
async def uploader(server: Server, **options: Any) -> AsyncIterator[Client]:
    """Connect to /v1/files; every event is validated against the contract."""
    async with connect(server, "/v1/files", **options) as client:
        await client.until("files.ready")
        yield client


async def upload(client: Client, path: Path, chunk: int = 65_536, **options: Any) -> None:
    """Upload one complete file."""
    content = await asyncio.to_thread(path.read_bytes)
    begin = {"name": path.name, "size": len(content), "options": options}
    await client.send("file.begin", **begin)
    for at in range(0, len(content), chunk):
        await client.socket.send(content[at : at + chunk])
    await client.send("file.end")


async def analyse(client: Client, path: Path, **options: Any) -> Event:
    """Upload a file and return its final event: `file.done`, `file.cancelled` or `error`."""
    before = len(client.of(*FINAL))
    await upload(client, path, **options)
    return await client.until(lambda event: event["type"] in FINAL, before + 1, timeout=60)


def fetch(server: Server, done: Event, name: str) -> bytes:
    [file] = [file for file in done["files"] if file["name"] == name]
    status, headers, body = server.get(file["url"])
    assert status == 200
    assert len(body) == file["bytes"] == int(headers["content-length"])
    return body


def wait_until_empty(folder: Path, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the results folder is empty."""
    deadline = time.monotonic() + timeout_s
    while folder.exists() and any(folder.iterdir()):
        assert time.monotonic() < deadline, f"not removed: {[*folder.rglob('*')]}"
        time.sleep(0.05)
