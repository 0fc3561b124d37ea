"""A batcher with a model that can be held, and who listens to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.inference.scheduler import BatchReport, Scheduler
from stream.inference.slot import Slot
from stream.types import FrameScores, GapReason, ModelInfo, Quality, Window
from tests.support.signals import ToneBackend, model, sine

QUALITY = Quality(-20.0, 0.0, None, None, 1.0)
SHORT, LONG = 3_200, 6_400
POISON, HOLE = 0.9, 0.8
"""First samples that make the backend raise, or answer with NaN."""


class Gate(ToneBackend):
    """A stand-in backend that a test can hold, break and look into."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self.shapes: list[tuple[int, int]] = []
        self.order: list[list[float]] = []
        self.thread: threading.Thread | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.broken = False
        self.memory = 1000
        self.plain = 0
        self.answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.plain += 1
        return self.embed(batch)[0]

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.thread = threading.current_thread()
        self.shapes.append(batch.shape)
        self.order.append(batch[:, 0].tolist())
        self.entered.release()
        assert self.open.wait(10)
        if len(batch) > self.memory:
            raise MemoryError
        if self.broken or (batch[:, 0] == np.float32(POISON)).any():
            raise RuntimeError("the model choked")
        logits, features = super().embed(batch)
        logits[batch[:, 0] == np.float32(HOLE)] = np.nan
        return (logits if self.answer is None else self.answer(logits)), features


@dataclass
class Ear:
    """Listens for one channel; remembers on which thread it was told."""

    name: str = ""
    taken_: list[Window] = field(default_factory=list)
    scored_: list[FrameScores] = field(default_factory=list)
    failed_: list[tuple[Window, GapReason]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    waited: list[float] = field(default_factory=list)

    def taken(self, window: Window) -> None:
        self.threads.add(threading.get_ident())
        self.taken_.append(window)

    def scored(self, scores: FrameScores, waited_s: float) -> None:
        self.threads.add(threading.get_ident())
        self.scored_.append(scores)
        self.waited.append(waited_s)

    def failed(self, window: Window, reason: GapReason) -> None:
        self.threads.add(threading.get_ident())
        self.failed_.append((window, reason))


class Bench:
    """A started batcher with its backend, and slots on demand."""

    def __init__(self, max_batch: int = 5, hang_s: float = 10.0, wait_s: float = 0.0) -> None:
        self.backend = Gate(model(lengths=(SHORT, LONG), batch_sizes=(1, 2, 5)))
        self.reports: list[BatchReport] = []
        self.scheduler = Scheduler(
            lambda: self.backend, max_batch, wait_s, hang_s, self.reports.append
        )
        self.ears: list[Ear] = []

    def slot(self, embed: bool = False) -> tuple[Ear, Slot]:
        ear = Ear()
        self.ears.append(ear)
        return ear, self.scheduler.slot(ear, embed)

    async def hold(self) -> tuple[Ear, Slot]:
        """Keep the backend busy with a window of its own, so that others have to wait."""
        self.backend.open.clear()
        ear, slot = self.slot()
        slot.offer(window(0.001))
        await until(lambda: bool(ear.taken_))
        self.forget()
        return ear, slot

    def forget(self) -> None:
        self.backend.shapes.clear()
        self.backend.order.clear()
        self.reports.clear()
        while self.backend.entered.acquire(blocking=False):
            pass

    def enter(self) -> None:
        """Block the loop (!) until the backend has begun a batch."""
        assert self.backend.entered.acquire(timeout=20)


def window(mark: float = 0.5, length: int = SHORT, end: int = 0) -> Window:
    """A window that can be told apart by its first sample."""
    audio = sine(length / 16_000, 300)
    audio[0] = mark
    return Window(
        0, end - length, audio, end - length, ((end - length, end),), 0, 0, "interval", QUALITY
    )


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.002)


def play(story: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a story with a started bench and stop the batcher after it."""

    async def run() -> None:
        bench = Bench(**settings)
        await bench.scheduler.start([SHORT, LONG])
        bench.forget()
        try:
            await story(bench)
        finally:
            bench.backend.open.set()
            await bench.scheduler.stop(5)
        assert not bench.scheduler._thread.is_alive()
        assert bench.backend.closed

    asyncio.run(run())


async def all_idle(slots: list[Slot]) -> None:
    for slot in slots:
        assert await slot.idle(20)


def expected(bench: Bench, of: Window) -> NDArray[np.float32]:
    return ToneBackend(bench.backend.info).infer(of.audio[None])[0]
