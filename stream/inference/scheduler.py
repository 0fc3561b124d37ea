"""Inference for all streams: one thread, one waiting window per channel, one length per batch."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream.backends.base import Backend
from stream.inference.runner import BackendRunner, Result, WarmUp
from stream.inference.slot import Listener, Slot
from stream.types import FrameScores, GapReason, ModelInfo, Window

log = logging.getLogger(__name__)

FAILURES_UNTIL_UNREADY = 3
PROBE_S = 1.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Figures of one batch, for metrics: real rows, rows that failed, seconds.

    `queued_s` is the time each row waited, `inference_s` the time the batch ran.
    """

    size: int
    failed: int
    queued_s: tuple[float, ...]
    inference_s: float


@dataclass(slots=True, eq=False)
class _Waiting:
    """A slot's waiting window.

    `since` is the time the slot began to wait, `due` the time this very window was offered; both
    are monotonic seconds.
    """

    window: Window
    since: float
    due: float


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    slot: Slot
    window: Window
    since: float
    due: float


class Scheduler:
    """Runs one backend in one thread and reports the outcome of each window on the event loop.

    A batch takes the window of the slot that has waited longest and all others of its length,
    oldest first, so no stream is served twice while another waits. A batch has one of the
    backend's sizes: if only a few rows are missing, a row is repeated; if many are missing, the
    batch is smaller and the remaining windows wait for the next one. A batch that fails is halved
    until the failing rows are alone; only those are lost.
    """

    def __init__(
        self,
        load: Callable[[], Backend],
        max_batch: int,
        max_wait_s: float,
        hang_timeout_s: float,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._load = load
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._hang_timeout_s = hang_timeout_s
        self._report = report
        self._changed = threading.Condition()
        self._waiting: dict[Slot, _Waiting] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._batch: Sequence[_Row] = ()
        self._busy_since: float | None = None
        self._failures = 0
        self._hung = False
        self.warm_up = WarmUp()

    async def start(self, lengths: Sequence[int]) -> ModelInfo:
        """Load the model and run every (length, batch size) once, in the inference thread.

        Raises whatever loading raises. May be called once.
        """
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[ModelInfo] = self._loop.create_future()
        # A daemon, because loading cannot be interrupted and must not delay an exit.
        self._thread = threading.Thread(
            target=self._run, args=(ready, lengths), name="emotide-inference", daemon=True
        )
        self._thread.start()
        return await ready

    def put(self, slot: Slot, window: Window) -> Window | None:
        """Queue a window; a waiting one is replaced, keeps its place, and is returned."""
        with self._changed:
            waiting, now = self._waiting.get(slot), time.monotonic()
            if waiting is not None:
                replaced, waiting.window, waiting.due = waiting.window, window, now
                return replaced
            self._waiting[slot] = _Waiting(window, now, now)
            self._changed.notify()
            return None

    def remove(self, slot: Slot) -> bool:
        """Drop the waiting window of `slot`; return whether there was one."""
        with self._changed:
            return self._waiting.pop(slot, None) is not None

    def holds(self, slot: Slot) -> bool:
        """Return whether a window of `slot` waits."""
        return slot in self._waiting

    def slot(self, listener: Listener, embed: bool = False) -> Slot:
        return Slot(self, listener, embed)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def busy_s(self) -> float:
        """Return how many seconds the current batch has been running; 0 if none is."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def trouble(self) -> str | None:
        """The reason why no new streams should be sent to this model now, or None."""
        if self._hung:
            return f"the model has not answered for {self.busy_s():.0f} s"
        if self._failures >= FAILURES_UNTIL_UNREADY:
            return f"the last {self._failures} batches failed"
        return None

    def watch(self) -> None:
        """Fail the windows of a batch that hangs; call this a few times a second on the loop."""
        if not self._hung and self.busy_s() > self._hang_timeout_s:
            self._hung = True
            log.error("model hung", extra={"busy_s": round(self.busy_s(), 1)})
            for row in self._batch:
                self._finish_row(row, None, "inference_timeout", self.busy_s())

    @property
    def alive(self) -> bool:
        """True while the thread runs; while it loads or hangs, it cannot be stopped."""
        return self._thread is not None and self._thread.is_alive()

    async def stop(self, timeout_s: float) -> None:
        """End the thread after its current batch; windows that still wait are not scored."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self, ready: asyncio.Future[ModelInfo], lengths: Sequence[int]) -> None:
        try:
            self._model = model = BackendRunner(self._load(), self._max_batch)
            model.check(lengths)
            for self.warm_up in model.warm_up(lengths):
                pass
        except BaseException as error:
            self._call_on_loop(_resolve, ready, None, error)
            return
        self._call_on_loop(_resolve, ready, model.info, None)
        # No rows means a probe: no window waits, and the last batches failed.
        while (rows := self._next_batch()) is not None:
            self._busy_since = time.monotonic()
            self._call_on_loop(self._batch_taken, rows)
            embed = any(row.slot.embed for row in rows)
            results = model.infer([row.window.audio for row in rows], embed) if rows else []
            elapsed = time.monotonic() - self._busy_since
            self._count_failure(results)
            self._busy_since = None
            self._call_on_loop(self._batch_done, rows, results, elapsed)
        model.close()

    def _count_failure(self, results: Sequence[Result | None]) -> None:
        """Count batches that failed because of the model, not because of their audio."""
        if any(result is not None for result in results) or self._model.healthy():
            self._failures = 0
        else:
            self._failures += 1

    def _next_batch(self) -> list[_Row] | None:
        """Block until there is work; return the next batch's rows, [] to probe, None to stop."""
        limit = self._model.sizes[-1]
        with self._changed:
            while True:
                # A failing model gets no new streams, so only a probe shows that it recovered.
                probe_s = PROBE_S if self._failures else None
                if not self._changed.wait_for(lambda: self._waiting or self._stopping, probe_s):
                    return []
                if self._stopping:
                    return None
                full = self._changed.wait_for(lambda: len(self._waiting) >= limit, self._max_wait_s)
                if full or self._waiting:
                    break
            oldest = next(iter(self._waiting.values()))
            length = oldest.window.length
            rows = [
                _Row(slot, waiting.window, waiting.since, waiting.due)
                for slot, waiting in self._waiting.items()
                if waiting.window.length == length
            ][:limit]
            rows = rows[: self._model.fitting(len(rows))]
            for row in rows:
                del self._waiting[row.slot]
            return rows

    def _call_on_loop(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: the process is exiting and no callback can run.
            self._stopping = True

    def _batch_taken(self, rows: Sequence[_Row]) -> None:
        self._batch = rows
        for row in rows:
            row.slot.mark_taken(row.window)

    def _batch_done(
        self, rows: Sequence[_Row], results: Sequence[Result | None], elapsed: float
    ) -> None:
        now = time.monotonic()
        failed = sum(result is None for result in results)
        if rows:
            queued = tuple(now - elapsed - row.since for row in rows)
            self._report(BatchReport(len(rows), failed, queued, elapsed))
        self._batch = ()
        if self._hung:
            self._hung = False
            log.warning("model recovered", extra={"elapsed_s": round(elapsed, 1)})
            return
        for row, result in zip(rows, results, strict=True):
            self._finish_row(row, result, "inference_failed", now - row.due)

    def _finish_row(
        self, row: _Row, result: Result | None, reason: GapReason, waited_s: float
    ) -> None:
        """Report one row to its listener; an error in the listener does not affect other rows."""
        try:
            if row.slot.withdrawn:
                return
            if result is None:
                row.slot.listener.window_failed(row.window, reason)
            else:
                logits, features = result
                scores = FrameScores(row.window, logits, features if row.slot.embed else None)
                row.slot.listener.window_scored(scores, waited_s)
        except Exception:
            log.exception("listener failed")
        finally:
            row.slot.mark_finished()


def _resolve(
    future: asyncio.Future[ModelInfo], info: ModelInfo | None, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif info is not None:
        future.set_result(info)
