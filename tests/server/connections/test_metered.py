"""The time that a coroutine takes of the event loop, without its waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stream.server.connections.metered import Metered


async def run(metered: Metered) -> Any:
    return await metered


async def test_waits_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[float] = []
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    async def wait() -> None:
        now[0] += 100

    async def work() -> str:
        now[0] += 1
        await asyncio.create_task(wait())
        now[0] += 2
        return "done"

    assert await run(Metered(work(), spent.append)) == "done"
    assert spent == [1, 2]


async def test_exceptions_pass() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run(Metered(work(), lambda seconds: None))


async def test_a_cancelled_coroutine_cleans_up() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned = True

    task = asyncio.create_task(run(Metered(work(), lambda seconds: None)))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert cleaned


async def test_an_exception_of_what_it_waits_for_reaches_it() -> None:
    async def work() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except TimeoutError:
            return "timed out"
        return ""

    assert await run(Metered(work(), lambda seconds: None)) == "timed out"
