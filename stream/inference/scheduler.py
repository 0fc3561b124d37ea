"""Scheduling of the windows of all streams: fair, in batches of one length, bounded per channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stream.inference.batch_cost import BatchCost
from stream.inference.engine import Batch, BatchResult, Engine
from stream.inference.runner import Result, WarmUp
from stream.inference.slot import Listener, Slot
from stream.inference.turns import Turns
from stream.tenants import DEFAULT
from stream.types import FrameScores, GapReason, ModelInfo, Window

log = logging.getLogger(__name__)

FAILURES_UNTIL_UNREADY = 3
PROBE_S = 1.0

TURN_S = 0.02
"""Longest batch while tenants share the engine: the wait of a window until it is its turn."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch, for metrics: its windows, seconds queued per window, seconds of inference."""

    size: int
    failed: int
    queued_s: tuple[float, ...]
    inference_s: float


@dataclass(slots=True, eq=False)
class _Waiting:
    """A waiting window, due at `due`; its slot has been waiting since `since` (monotonic)."""

    window: Window
    since: float
    due: float


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    slot: Slot
    window: Window
    since: float
    due: float


@dataclass(slots=True, eq=False)
class _Flight:
    """A batch that the engine has; `abandoned` once its windows were reported as lost."""

    rows: Sequence[_Row]
    abandoned: bool = field(default=False)


class Scheduler:
    """Passes windows to an engine and each result to the window's listener. On the event loop.

    A batch takes the window that has waited longest and all others of its length, oldest first, so
    no channel is served twice while another waits. Of several tenants, each gets the same share of
    the engine (`Turns`), and a batch is no longer than `TURN_S`. A channel has **at most one window
    waiting and at most one in flight**: an engine may answer batches in any order, and a window
    that is answered before the one before it would end an utterance without its last frames.
    """

    def __init__(
        self,
        engine: Engine,
        max_wait_s: float,
        hang_timeout_s: float,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._max_wait_s = max_wait_s
        self._hang_timeout_s = hang_timeout_s
        self._report = report
        self._ready: dict[Slot, _Waiting] = {}
        """Waiting windows whose channel has none in flight, oldest first."""
        self._blocked: dict[Slot, _Waiting] = {}
        """Waiting windows whose channel has one in flight."""
        self._busy: set[Slot] = set()
        """Slots that have a window in flight."""
        self._flights: set[_Flight] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._timer_is_late = False
        self._running = False
        self._turns = Turns()
        self._cost = BatchCost()
        self._failures = 0
        self._probing = False
        self._hung = False
        self.warm_up = WarmUp()

    async def start(self, lengths: Sequence[int]) -> ModelInfo:
        """Load the model and run every (length, batch size) once. Raises what loading raises.

        `lengths` are in samples; empty: those that the model prefers.
        """
        self._loop = asyncio.get_running_loop()
        info = await self._engine.start(lengths, self._on_progress)
        self._running = True
        return info

    async def stop(self, timeout_s: float) -> None:
        """End the engine after the batches that run; windows that wait are not scored."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._engine.close(timeout_s)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.05)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def slot(self, listener: Listener, embed: bool = False, tenant: str = DEFAULT) -> Slot:
        """Return a new slot for one channel of a tenant's stream or recording."""
        return Slot(self, listener, embed, tenant)

    # -- windows, see `Slot` -----------------------------------------------------------------

    def put(self, slot: Slot, window: Window) -> Window | None:
        """Queue a window; it takes the place of the one of its slot that waits, and returns it."""
        now = time.monotonic()
        self._turns.offered(slot.tenant, now)
        waiting = self._ready.get(slot) or self._blocked.get(slot)
        if waiting is not None:
            replaced, waiting.window, waiting.due = waiting.window, window, now
            return replaced
        queue = self._blocked if slot in self._busy else self._ready
        queue[slot] = _Waiting(window, now, now)
        if queue is self._ready:
            self._wake()
        return None

    def remove(self, slot: Slot) -> None:
        """Drop the window that waits in `slot`, if any."""
        self._ready.pop(slot, None)
        self._blocked.pop(slot, None)

    def holds(self, slot: Slot) -> bool:
        """Return whether a window of `slot` waits."""
        return slot in self._ready or slot in self._blocked

    @property
    def waiting(self) -> int:
        """Number of windows that wait."""
        return len(self._ready) + len(self._blocked)

    # -- health ------------------------------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """Reason not to accept new streams now, or None."""
        if self._hung:
            return f"the model has not answered for {self.busy_s():.0f} s"
        if self._failures >= FAILURES_UNTIL_UNREADY:
            return f"the last {self._failures} batches failed"
        return None

    def busy_s(self) -> float:
        """Return the seconds that the longest-running batch has been running."""
        return self._engine.busy_s()

    @property
    def alive(self) -> bool:
        """True while native code of the model runs in this process."""
        return self._engine.alive

    @property
    def hang_is_fatal(self) -> bool:
        """True if only a restart of this process ends a call that hangs."""
        return self._engine.hang_is_fatal

    def watch(self) -> None:
        """Report the windows of a thread that hangs as lost; call a few times a second."""
        if not self._engine.hang_is_fatal or self._hung or self.busy_s() <= self._hang_timeout_s:
            return
        self._hung = True
        log.error("model hung", extra={"busy_s": round(self.busy_s(), 1)})
        for flight in self._flights:
            flight.abandoned = True
            self._finish(flight.rows, [None] * len(flight.rows), "inference_timeout")

    # -- batches -----------------------------------------------------------------------------

    def _wake(self) -> None:
        """Arrange for the next batch: now if it is full, else `max_wait_s` after its oldest."""
        if not self._can_fly():
            return
        delay = 0.0
        if len(self._ready) < self._engine.limit:
            oldest = next(iter(self._ready.values()))
            delay = max(0.0, oldest.since + self._max_wait_s - time.monotonic())
        if self._timer is not None:
            if delay or not self._timer_is_late:
                return
            self._timer.cancel()
        self._timer_is_late = delay > 0
        # Even now means the next iteration of the loop: the windows of this one join the batch.
        call = self._loop.call_soon if not delay else partial(self._loop.call_later, delay)
        self._timer = call(self._dispatch)

    def _can_fly(self) -> bool:
        """Return whether the engine takes a batch: only a full one queues behind those that run."""
        if not self._running or self._hung or not self._ready:
            return False
        engine, flights = self._engine, len(self._flights)
        full = len(self._ready) >= engine.limit and not self._turns.shared(time.monotonic())
        return flights < (engine.in_flight if full else engine.parallel)

    def _dispatch(self) -> None:
        self._timer = None
        while self._can_fly():
            flight = _Flight(self._take())
            self._flights.add(flight)
            for row in flight.rows:
                _notify(row.slot, row.slot.listener.window_taken, row.window)
            self._spawn(self._fly(flight))

    def _take(self) -> Sequence[_Row]:
        """Remove the rows of the next batch from the queue."""
        lengths = {slot: waiting.window.length for slot, waiting in self._ready.items()}
        slots = self._turns.select(lengths, self._engine.limit)
        length = lengths[slots[0]]
        if self._turns.shared(time.monotonic()):
            slots = slots[: self._cost.most(TURN_S, length, self._engine.limit)]
        slots = slots[: self._engine.fitting(len(slots))]
        self._turns.charge(slots, length, len(lengths) - len(slots))
        self._busy.update(slots)
        taken = ((slot, self._ready.pop(slot)) for slot in slots)
        return [_Row(slot, waiting.window, waiting.since, waiting.due) for slot, waiting in taken]

    async def _fly(self, flight: _Flight) -> None:
        rows, began = flight.rows, time.monotonic()
        embed = any(row.slot.embed for row in rows)
        batch = Batch(tuple(row.window.audio for row in rows), embed)
        reason: GapReason = "inference_failed"
        # A thread that hangs cannot be abandoned; `watch` looks after it.
        limit_s = None if self._engine.hang_is_fatal else self._hang_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                result = await self._engine.score(batch)
        except TimeoutError:
            log.error("batch not answered", extra={"size": len(rows), "limit_s": limit_s})
            reason = "inference_timeout"
            result = BatchResult([None] * len(rows), time.monotonic() - began)
        except Exception:
            log.exception("batch failed", extra={"size": len(rows)})
            result = BatchResult([None] * len(rows), time.monotonic() - began)
        self._flights.discard(flight)
        self._cost.add(len(rows) * rows[0].window.length, result.seconds)
        lost = result.rows.count(None)
        started = time.monotonic() - result.seconds
        queued = tuple(max(0.0, started - row.since) for row in rows)
        self._report(BatchReport(len(rows), lost, queued, result.seconds))
        if flight.abandoned:
            if self._hung and not any(other.abandoned for other in self._flights):
                self._hung = False
                log.warning("model recovered", extra={"elapsed_s": round(result.seconds, 1)})
        else:
            self._finish(rows, result.rows, reason)
        self._wake()
        if lost == len(rows) and rows:
            await self._check()
        else:
            self._failures = 0

    async def _check(self) -> None:
        """Count a failed batch if the model itself fails; after three, ask it until it recovers."""
        if await self._is_healthy():
            self._failures = 0
            return
        self._failures += 1
        if self._failures < FAILURES_UNTIL_UNREADY or self._probing:
            return
        self._probing = True
        while self._running and self._failures >= FAILURES_UNTIL_UNREADY:
            # A server that is not ready gets no calls, so no batch shows that it recovered.
            await asyncio.sleep(PROBE_S)
            if await self._is_healthy():
                self._failures = 0
        self._probing = False

    async def _is_healthy(self) -> bool:
        try:
            return await self._engine.healthy()
        except Exception:
            log.debug("model check failed", exc_info=True)
            return False

    def _finish(
        self, rows: Iterable[_Row], results: Iterable[Result | None], reason: GapReason
    ) -> None:
        """Notify the listener of every row, and let windows that waited for it be next."""
        now = time.monotonic()
        for row, result in zip(rows, results, strict=True):
            slot = row.slot
            self._busy.discard(slot)
            if (waiting := self._blocked.pop(slot, None)) is not None:
                self._ready[slot] = waiting
            if result is None:
                _notify(slot, slot.listener.window_failed, row.window, reason)
            else:
                logits, features = result
                scores = FrameScores(row.window, logits, features if slot.embed else None)
                _notify(slot, slot.listener.window_scored, scores, now - row.due)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_progress(self, warm_up: WarmUp) -> None:
        """Keep the progress of the warm-up; called from the engine's thread."""
        self.warm_up = warm_up


def _notify(slot: Slot, callback: Callable[..., None], *args: object) -> None:
    """Call a listener unless it has withdrawn; its exceptions do not affect other streams."""
    if slot.withdrawn:
        return
    try:
        callback(*args)
    except Exception:
        log.exception("listener failed")
