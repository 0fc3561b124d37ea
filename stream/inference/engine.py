"""The seam for models: batches in, frame logits out, in a thread of this process or elsewhere."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol, TypeVar

from stream.backends.base import Backend
from stream.inference.runner import BackendRunner, Result, WarmUp
from stream.types import ModelInfo, Samples

log = logging.getLogger(__name__)

T = TypeVar("T")
Progress = Callable[[WarmUp], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one length, float32[samples] each; `embed` asks for features besides logits."""

    audio: tuple[Samples, ...]
    embed: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of each row, None for a row that failed, and the seconds of inference."""

    rows: list[Result | None]
    seconds: float


class Engine(Protocol):
    """A model, wherever it runs. Every method is called on the event loop.

    It runs `parallel` batches at a time, and takes up to `in_flight`, of which the others are
    queued. `hang_is_fatal` says that only a restart of this process ends a call that hangs (native
    code in a thread); of other engines, a batch that is not answered in time is cancelled.
    """

    parallel: int
    in_flight: int
    hang_is_fatal: bool

    async def start(self, lengths: Sequence[int], progress: Progress) -> ModelInfo:
        """Load the model and run every shape once.

        `lengths` are in samples; empty: those that the model prefers.
        """
        ...

    @property
    def limit(self) -> int:
        """The largest number of windows of a batch."""
        ...

    def fitting(self, waiting: int) -> int:
        """Return how many of `waiting` windows the next batch takes."""
        ...

    async def score(self, batch: Batch) -> BatchResult:
        """Return the result of every row; raise if the whole batch failed."""
        ...

    async def healthy(self) -> bool:
        """Return whether the model scores a window that it scored when it started."""
        ...

    def busy_s(self) -> float:
        """Return the seconds that the longest-running batch has been running, 0 if none runs."""
        ...

    @property
    def alive(self) -> bool:
        """True while native code runs in this process; it cannot be interrupted."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Release the model after the batches that run, at most after `timeout_s` seconds."""
        ...


class ThreadEngine:
    """A backend in a thread of this process.

    One batch runs and one is queued behind it, so that the thread does not wait for the event loop
    between batches. `niceness` above 0 lets other threads go first (Linux, setpriority(2)).
    """

    parallel, in_flight = 1, 2
    hang_is_fatal = True

    def __init__(self, load: Callable[[], Backend], max_batch: int, niceness: int = 0) -> None:
        self._load = load
        self._niceness = niceness
        self._max_batch = max_batch
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._runner: BackendRunner

    async def start(self, lengths: Sequence[int], progress: Progress) -> ModelInfo:
        """Load the model and warm it up in the thread. Raises what loading raises; call once."""
        self._loop = asyncio.get_running_loop()

        def load() -> ModelInfo:
            if self._niceness and sys.platform == "linux":
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
            runner = BackendRunner(self._load(), self._max_batch)
            used = lengths or runner.info.preferred_lengths
            runner.check(used)
            for warm_up in runner.warm_up(used):
                progress(warm_up)
            self._runner = runner
            return runner.info

        # A daemon, because loading cannot be interrupted and must not delay an exit.
        self._thread = threading.Thread(target=self._run, name="emotide-inference", daemon=True)
        self._thread.start()
        try:
            return await self._call(load)
        except BaseException:
            self._jobs.put(None)
            raise

    @property
    def limit(self) -> int:
        return self._runner.sizes[-1]

    def fitting(self, waiting: int) -> int:
        """Return how many of `waiting` windows make a batch that is filled well."""
        return self._runner.fitting(waiting)

    async def score(self, batch: Batch) -> BatchResult:
        """Score the rows; a batch that fails is halved until the rows that fail are alone."""

        def score() -> BatchResult:
            began = time.monotonic()
            rows = self._runner.infer(batch.audio, batch.embed)
            return BatchResult(rows, time.monotonic() - began)

        return await self._call(score)

    async def healthy(self) -> bool:
        """Return whether the model scores the noise of its warm-up."""
        return await self._call(lambda: self._runner.healthy())

    def busy_s(self) -> float:
        """Return the seconds that the thread has been working on its current call."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    async def close(self, timeout_s: float) -> None:
        """End the thread after its current call; queued batches are not scored."""
        while not self._jobs.empty():
            self._jobs.get_nowait()
        self._jobs.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_s)

    def _call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in the thread; the future gets its result on the event loop."""
        future: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            self._busy_since = time.monotonic()
            try:
                result = work()
            except BaseException as error:
                self._busy_since = None
                self._post(_reject, future, error)
            else:
                self._busy_since = None
                self._post(_resolve, future, result)

        self._jobs.put(job)
        return future

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # Or the last job's audio would stay until the next one comes.
            del job
        if hasattr(self, "_runner"):
            self._runner.close()

    def _post(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: the process is exiting.
            self._jobs.put(None)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _reject(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
