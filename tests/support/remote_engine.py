"""A toy engine elsewhere: batches go to a worker process over TCP, answers come in any order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from stream.inference.engine import Batch, BatchResult, Progress
from stream.inference.runner import WarmUp
from stream.types import ModelInfo
from tests.support.plugins import LENGTHS
from tests.support.remote_worker import receive, send


class RemoteEngine:
    """Client of the worker at `port`; see `stream.inference.engine.Engine`."""

    parallel = in_flight = 10
    hang_is_fatal = False
    limit = 8
    alive = False

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._since: dict[int, float] = {}
        self._number = 0
        self.order: list[int] = []
        """Numbers of the batches in the order in which they were answered."""

    async def start(self, lengths: Sequence[int], progress: Progress) -> ModelInfo:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._reading = asyncio.create_task(self._read(reader))
        progress(WarmUp("", 1, 1))
        info = await self._call("info")
        assert isinstance(info, ModelInfo)
        return info

    def fitting(self, waiting: int) -> int:
        return min(waiting, self.limit)

    async def score(self, batch: Batch) -> BatchResult:
        began = time.monotonic()
        rows = await self._call(np.stack(batch.audio))
        return BatchResult(rows, time.monotonic() - began)

    async def healthy(self) -> bool:
        return bool(await self._call(np.zeros((1, LENGTHS[0]), np.float32)))

    def busy_s(self) -> float:
        return time.monotonic() - min(self._since.values()) if self._since else 0.0

    async def close(self, timeout_s: float) -> None:
        self._reading.cancel()
        self._writer.close()

    async def _call(self, request: object) -> Any:
        if self._reading.done():
            raise ConnectionError("the worker is gone")
        self._number = number = self._number + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._since[number] = time.monotonic()
        send(self._writer, (number, request))
        try:
            return await self._answers[number]
        finally:
            del self._answers[number], self._since[number]

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, answer = await receive(reader)
                self.order.append(number)
                if number in self._answers and not self._answers[number].done():
                    self._answers[number].set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            for future in self._answers.values():
                future.set_exception(ConnectionError("the worker is gone"))
