"""Number of live streams that one device carries: the server's scheduler, without sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bench.gpu.part import Context
from bench.gpu.throughput import load
from stream.backends.emotion2vec.backend import LENGTHS
from stream.backends.emotion2vec.signals import buzzes
from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import BatchReport, Scheduler
from stream.inference.slot import Slot
from stream.types import FrameScores, GapReason, Quality, Samples, Window

TABLE = "Live streams, hop 1 s, window 3 s"
FIRST = "First windows after ready"
LIMIT_S = 0.3
"""Limit of the p95 from the time at which a window is due to its score."""

HOP_S = 1.0
ROUND_S = {"cuda": 4.0, "cpu": 2.5}
START = {"cuda": 256, "cpu": 8}
MAX_STREAMS = 16_384
QUALITY = Quality(-20.0, 0.0, None, None, 1.0)


@dataclass(slots=True)
class Stream:
    """Stream of continuous speech; records the waiting times and losses of its windows."""

    waited: list[float] = field(default_factory=list)
    taken: int = 0
    lost: int = 0

    def window_taken(self, window: Window) -> None:
        self.taken += 1

    def window_scored(self, scores: FrameScores, waited_s: float) -> None:
        self.waited.append(waited_s)

    def window_failed(self, window: Window, reason: GapReason) -> None:
        self.lost += 1


def run(context: Context) -> None:
    """Double the streams while p95 stays under the limit, then bisect between the last two."""
    asyncio.run(_run(context))


async def _run(context: Context) -> None:
    batches: list[BatchReport] = []
    engine = ThreadEngine(lambda: load(context), max_batch=128)
    scheduler = Scheduler(engine, max_wait_s=0.005, hang_timeout_s=30.0, report=batches.append)
    begin = time.monotonic()
    await scheduler.start(LENGTHS)
    context.emit(FIRST, what="load and warm-up, s", value=round(time.monotonic() - begin, 2))
    audio = list(buzzes(16, LENGTHS[-1]))
    await _first(context, scheduler, audio)
    carried, over, streams = 0, 0, START[context.kind]
    while context.left() > ROUND_S[context.kind] + 3 and streams <= MAX_STREAMS:
        batches.clear()
        p95 = await _round(context, scheduler, audio, streams, ROUND_S[context.kind], batches)
        if p95 <= LIMIT_S:
            carried = streams
            streams = streams * 2 if not over else (streams + over) // 2
        else:
            over = streams
            streams = (carried + streams) // 2
        if over and over - carried <= max(1, over // 10):
            break
    note = "no more were tried" if not over else f"{over} exceeded it"
    context.emit(FIRST, what=f"streams with p95 under {LIMIT_S * 1e3:g} ms ({note})", value=carried)
    await scheduler.stop(10)


async def _first(context: Context, scheduler: Scheduler, audio: Sequence[Samples]) -> None:
    """Measure ten windows one by one, to show work that the warm-up has left to the first."""
    stream = Stream()
    slot = scheduler.slot(stream)
    for position in range(10):
        slot.offer(_window(audio[0], position))
        await _until(partial(_has_answers, stream, position + 1))
    first, tenth = stream.waited[0] * 1e3, stream.waited[9] * 1e3
    context.emit(FIRST, what="first window, ms", value=round(first, 2))
    context.emit(FIRST, what="tenth window, ms", value=round(tenth, 2))
    context.emit(FIRST, what="first / tenth (at most 1.5)", value=round(first / tenth, 2))


async def _round(
    context: Context,
    scheduler: Scheduler,
    audio: Sequence[Samples],
    streams: int,
    seconds: float,
    batches: list[BatchReport],
) -> float:
    """Run `streams` for some seconds, with windows due evenly over each hop; return the p95."""
    listeners = [Stream() for _ in range(streams)]
    slots = [scheduler.slot(listener) for listener in listeners]
    replaced = 0
    cpu = time.process_time()
    begin = time.monotonic()
    for number in range(int(seconds / HOP_S * streams)):
        due = begin + number * HOP_S / streams
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        slot, window = slots[number % streams], _window(audio[number % len(audio)], number)
        replaced += slot.offer(window) is not None
    elapsed = time.monotonic() - begin
    await _finish(listeners, slots)
    waited = [wait for listener in listeners for wait in listener.waited]
    p50, p95, p99 = (float(np.percentile(waited, share)) for share in (50, 95, 99))
    sizes = [report.size for report in batches]
    context.emit(
        TABLE,
        streams=streams,
        **{
            "p50 ms": round(p50 * 1e3, 1),
            "p95 ms": round(p95 * 1e3, 1),
            "p99 ms": round(p99 * 1e3, 1),
            "windows/s": round(len(waited) / elapsed, 1),
            "replaced": replaced,
            "lost": sum(listener.lost for listener in listeners),
            "batch mean": round(sum(sizes) / len(sizes), 1),
            "batch sizes": _common(sizes),
            "CPU cores": round((time.process_time() - cpu) / elapsed, 2),
        },
    )
    return p95 if replaced <= 0.01 * len(waited) else float("inf")


async def _until(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    """Poll the condition every half millisecond; return False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.0005)
    return True


async def _finish(streams: Sequence[Stream], slots: Sequence[Slot]) -> None:
    """Wait until all windows are scored; withdraw those that take more than 20 s."""
    deadline = time.monotonic() + 20
    for stream, slot in zip(streams, slots, strict=True):
        left_s = max(0.0, deadline - time.monotonic())
        if not await _until(partial(_is_idle, stream, slot), left_s):
            slot.withdraw()


def _has_answers(stream: Stream, windows: int) -> bool:
    return len(stream.waited) + stream.lost >= windows


def _is_idle(stream: Stream, slot: Slot) -> bool:
    return not slot.waiting and stream.taken == len(stream.waited) + stream.lost


def _common(sizes: Sequence[int]) -> str:
    return " ".join(f"{size}×{count}" for size, count in Counter(sizes).most_common(4))


def _window(audio: Samples, number: int) -> Window:
    start = number * 16_000
    end = start + len(audio)
    return Window(0, start, audio, start, ((start, end),), start, 0, "interval", QUALITY)
