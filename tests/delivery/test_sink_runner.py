"""A sink that fails is started again, and nothing else notices."""

from __future__ import annotations

import asyncio
import logging

import pytest

from stream.delivery import sink_runner
from stream.delivery.live_stream import LiveStream
from stream.delivery.sink_runner import keep_running
from stream.protocol.events import EncodedEvent


class Failing:
    """A sink whose `run` raises some times, then waits for `stop`."""

    def __init__(self, failures: int) -> None:
        self.runs = 0
        self.running = asyncio.Event()
        self._failures = failures
        self._stopped = asyncio.Event()

    def opened(self, stream: LiveStream) -> None: ...

    def event(self, stream: LiveStream, event: EncodedEvent) -> None: ...

    def changed(self, stream: LiveStream) -> None: ...

    def closed(self, stream: LiveStream) -> None: ...

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise ValueError("no destination")
        self.running.set()
        await self._stopped.wait()

    async def stop(self, timeout_s: float) -> None:
        self._stopped.set()


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_runner, "FIRST_RETRY_S", 0.01)


async def test_a_sink_that_raises_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a sink's `run` ended the server, with all its calls."""
    sink, failed = Failing(3), list[str]()
    task = asyncio.create_task(keep_running(sink, failed.append))
    async with asyncio.timeout(5):
        await sink.running.wait()
    assert failed == ["Failing"] * 3
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.retry_s for r in records] == [0.01, 0.02, 0.04]  # type: ignore[attr-defined]  # from `extra`
    await sink.stop(1.0)
    async with asyncio.timeout(5):
        await task
    assert sink.runs == 4


async def test_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_runner, "LAST_RETRY_S", 0.02)
    sink = Failing(5)
    task = asyncio.create_task(keep_running(sink, lambda name: None))
    async with asyncio.timeout(5):
        await sink.running.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
