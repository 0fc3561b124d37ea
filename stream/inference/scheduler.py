"""Inference for all streams: one thread, one window waiting per channel, one length per batch."""

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
    """One batch, for metrics: rows asked for, seconds queued per row, seconds of inference."""

    size: int
    failed: int
    queued_s: tuple[float, ...]
    inference_s: float


@dataclass(slots=True, eq=False)
class _Waiting:
    """`since` is when the slot's turn began to count, `due` when this very window was offered."""

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
    """Feeds one backend from one thread and tells each window's fate on the event loop.

    A batch takes the longest-waiting window and all others of its length, oldest first, so no
    stream is served twice while another waits. A batch has one of the backend's sizes; a row is
    repeated where little is missing, and where much is, the rest waits for the next. A batch
    that fails is tried row by row; only rows that fail alone are lost.
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
        self._room = threading.Condition()
        self._waiting: dict[Slot, _Waiting] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._batch: Sequence[_Row] = ()
        self._busy_since: float | None = None
        self._failures = 0
        self._given_up = False
        self.warm_up = WarmUp()

    async def start(self, lengths: Sequence[int]) -> ModelInfo:
        """Load the model and run every (length, batch size) once, in the inference thread.

        Raises whatever loading raises. May be called once.
        """
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[ModelInfo] = self._loop.create_future()
        # A daemon, because loading cannot be interrupted and must not hold up an exit.
        self._thread = threading.Thread(
            target=self._run, args=(ready, lengths), name="emotide-inference", daemon=True
        )
        self._thread.start()
        return await ready

    def put(self, slot: Slot, window: Window) -> Window | None:
        """`Slot.offer`: the newer window takes the older one's place in the queue."""
        with self._room:
            before, now = self._waiting.get(slot), time.monotonic()
            if before is not None:
                replaced, before.window, before.due = before.window, window, now
                return replaced
            self._waiting[slot] = _Waiting(window, now, now)
            self._room.notify()
            return None

    def remove(self, slot: Slot) -> bool:
        """Forget what `slot` has waiting; whether there was anything."""
        with self._room:
            return self._waiting.pop(slot, None) is not None

    def holds(self, slot: Slot) -> bool:
        """Whether a window of `slot` waits."""
        return slot in self._waiting

    def slot(self, listener: Listener, embed: bool = False) -> Slot:
        return Slot(self, listener, embed)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def busy_s(self) -> float:
        """Seconds that the current batch has been running."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def trouble(self) -> str | None:
        """Why the backend is not to be trusted with new streams now, or None."""
        if self._given_up:
            return f"the model has not answered for {self.busy_s():.0f} s"
        if self._failures >= FAILURES_UNTIL_UNREADY:
            return f"the last {self._failures} batches failed"
        return None

    def watch(self) -> None:
        """Give up a batch that hangs; to be called a few times a second on the loop."""
        if not self._given_up and self.busy_s() > self._hang_timeout_s:
            self._given_up = True
            log.error("inference hangs", extra={"busy_s": round(self.busy_s(), 1)})
            for row in self._batch:
                self._tell_row(row, None, "inference_timeout", self.busy_s())

    @property
    def alive(self) -> bool:
        """Whether the thread still runs; while it loads or hangs, it cannot be stopped."""
        return self._thread is not None and self._thread.is_alive()

    async def stop(self, timeout_s: float) -> None:
        """End the thread after its current batch; what waits is not scored any more."""
        with self._room:
            self._stopping = True
            self._room.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self, ready: asyncio.Future[ModelInfo], lengths: Sequence[int]) -> None:
        try:
            self._model = model = BackendRunner(self._load(), self._max_batch)
            model.check(lengths)
            for self.warm_up in model.warm_up(lengths):
                pass
        except BaseException as error:
            self._tell(_settle, ready, None, error)
            return
        self._tell(_settle, ready, model.info, None)
        # No rows: a probe, because all is quiet and the model was in trouble.
        while (rows := self._take()) is not None:
            self._busy_since = time.monotonic()
            self._tell(self._began, rows)
            embed = any(row.slot.embed for row in rows)
            results = model.infer([row.window.audio for row in rows], embed) if rows else []
            elapsed = time.monotonic() - self._busy_since
            self._judge(results)
            self._busy_since = None
            self._tell(self._done, rows, results, elapsed)
        model.close()

    def _judge(self, results: Sequence[Result | None]) -> None:
        """Count batches that failed because of the model, not because of what was in them."""
        if any(result is not None for result in results) or self._model.well():
            self._failures = 0
        else:
            self._failures += 1

    def _take(self) -> list[_Row] | None:
        """Block until there is work; the rows of the next batch, none to probe, None to stop."""
        limit = self._model.sizes[-1]
        with self._room:
            while True:
                # In trouble it gets no calls, so it has to find out by itself that it is well.
                patience = PROBE_S if self._failures else None
                if not self._room.wait_for(lambda: self._waiting or self._stopping, patience):
                    return []
                if self._stopping:
                    return None
                full = self._room.wait_for(lambda: len(self._waiting) >= limit, self._max_wait_s)
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

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: the process is going and nobody is left to tell.
            self._stopping = True

    def _began(self, rows: Sequence[_Row]) -> None:
        self._batch = rows
        for row in rows:
            row.slot.begun(row.window)

    def _done(self, rows: Sequence[_Row], results: Sequence[Result | None], elapsed: float) -> None:
        now = time.monotonic()
        lost = sum(result is None for result in results)
        if rows:
            queued = tuple(now - elapsed - row.since for row in rows)
            self._report(BatchReport(len(rows), lost, queued, elapsed))
        self._batch = ()
        if self._given_up:
            self._given_up = False
            log.warning("inference answers again", extra={"elapsed_s": round(elapsed, 1)})
            return
        for row, result in zip(rows, results, strict=True):
            self._tell_row(row, result, "inference_failed", now - row.due)

    def _tell_row(
        self, row: _Row, result: Result | None, reason: GapReason, waited_s: float
    ) -> None:
        """Tell one listener; what it makes of it is not the others' trouble."""
        try:
            if row.slot.withdrawn:
                return
            if result is None:
                row.slot.listener.failed(row.window, reason)
            else:
                logits, features = result
                kept = features if row.slot.embed else None
                row.slot.listener.scored(FrameScores(row.window, logits, kept), waited_s)
        except Exception:
            log.exception("a listener failed")
        finally:
            row.slot.done()


def _settle(
    future: asyncio.Future[ModelInfo], info: ModelInfo | None, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif info is not None:
        future.set_result(info)
