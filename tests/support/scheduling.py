"""A scheduler with a backend under test control, and a listener that records its callbacks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import BatchReport, Scheduler
from stream.inference.slot import Slot
from stream.types import FrameScores, GapReason, ModelInfo, Quality, Window
from tests.support.signals import ToneBackend, model, sine

QUALITY = Quality(-20.0, 0.0, None, None, 1.0)
SHORT, LONG = 3_200, 6_400
RAISES, NAN = 0.9, 0.8
"""First samples of windows for which the backend raises, or returns NaN."""

Transform = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Change of the logits that a backend returns."""


class ControlledBackend(ToneBackend):
    """A stand-in backend that a test can hold, break and inspect."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self.shapes: list[tuple[int, int]] = []
        self.marks: list[list[float]] = []
        self.thread: threading.Thread | None = None
        self.batches_begun = threading.Semaphore(0)
        self._released = threading.Event()
        self._released.set()
        self.broken = False
        self.max_rows = 1000
        self.infer_calls = 0
        self.transform: Transform | None = None

    def hold(self) -> None:
        """Block every batch until `release`."""
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.infer_calls += 1
        return self.embed(batch)[0]

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.thread = threading.current_thread()
        self.shapes.append(batch.shape)
        self.marks.append(batch[:, 0].tolist())
        self.batches_begun.release()
        assert self._released.wait(10)
        if len(batch) > self.max_rows:
            raise MemoryError
        if self.broken or (batch[:, 0] == np.float32(RAISES)).any():
            raise RuntimeError("batch refused by the test")
        logits, features = super().embed(batch)
        logits[batch[:, 0] == np.float32(NAN)] = np.nan
        return (logits if self.transform is None else self.transform(logits)), features


@dataclass
class RecordingListener:
    """Records the callbacks of one channel, and the threads they came from."""

    name: str = ""
    taken: list[Window] = field(default_factory=list)
    scored: list[FrameScores] = field(default_factory=list)
    failed: list[tuple[Window, GapReason]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    waited: list[float] = field(default_factory=list)

    def window_taken(self, window: Window) -> None:
        self.threads.add(threading.get_ident())
        self.taken.append(window)

    def window_scored(self, scores: FrameScores, waited_s: float) -> None:
        self.threads.add(threading.get_ident())
        self.scored.append(scores)
        self.waited.append(waited_s)

    def window_failed(self, window: Window, reason: GapReason) -> None:
        self.threads.add(threading.get_ident())
        self.failed.append((window, reason))


class Harness:
    """A scheduler with its backend, and slots on demand."""

    def __init__(self, max_batch: int = 5, hang_s: float = 10.0, wait_s: float = 0.0) -> None:
        self.backend = ControlledBackend(model(lengths=(SHORT, LONG), batch_sizes=(1, 2, 5)))
        self.reports: list[BatchReport] = []
        self.engine = ThreadEngine(lambda: self.backend, max_batch)
        self.scheduler = Scheduler(self.engine, wait_s, hang_s, self.reports.append)
        self.listeners: list[RecordingListener] = []

    def slot(self, embed: bool = False) -> tuple[RecordingListener, Slot]:
        listener = RecordingListener()
        self.listeners.append(listener)
        return listener, self.scheduler.slot(listener, embed)

    async def hold(self) -> tuple[RecordingListener, Slot]:
        """Occupy the backend with a separate window, so that other windows have to wait."""
        self.reset()
        self.backend.hold()
        listener, slot = self.slot()
        slot.offer(window(0.001))
        await self.batch_begun()
        self.reset()
        return listener, slot

    def reset(self) -> None:
        self.backend.shapes.clear()
        self.backend.marks.clear()
        self.reports.clear()
        while self.backend.batches_begun.acquire(blocking=False):
            pass

    async def batch_begun(self) -> None:
        """Wait until the backend has begun a batch."""
        assert await asyncio.to_thread(self.backend.batches_begun.acquire, timeout=20)


def window(mark: float = 0.5, length: int = SHORT, end: int = 0) -> Window:
    """Return a window whose first sample, `mark`, identifies it."""
    audio = sine(length / 16_000, 300)
    audio[0] = mark
    return Window(
        0, end - length, audio, end - length, ((end - length, end),), 0, 0, "interval", QUALITY
    )


async def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def running_harness(**settings: Any) -> AsyncIterator[Harness]:
    """Start a harness for the duration of the block, then stop its scheduler and check its end."""
    harness = Harness(**settings)
    await harness.scheduler.start([SHORT, LONG])
    harness.reset()
    try:
        yield harness
    finally:
        harness.backend.release()
        await harness.scheduler.stop(5)
    assert not harness.engine.alive
    assert harness.backend.closed


async def idle(*slots: Slot, timeout: float = 60.0) -> None:
    """Wait until no window of the slots waits or is in flight."""
    for slot in slots:
        scheduler = slot._queue
        assert isinstance(scheduler, Scheduler)
        await until(lambda: not slot.waiting and slot not in scheduler._busy, timeout)  # noqa: B023


def expected(harness: Harness, of: Window) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = ToneBackend(harness.backend.info).infer(of.audio[None])[0]
    return logits
