"""The connection between a stream's pipeline and its slots in the scheduler."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stream.analysis.pipeline import StreamPipeline
from stream.inference.scheduler import Scheduler
from stream.inference.slot import Slot
from stream.telemetry.metrics import Metrics
from stream.tenants import DEFAULT
from stream.types import Event, FrameScores, GapReason, Window

Emit = Callable[[Event, float | None], None]
"""Receives an event and, for scores, the seconds since its window was due."""

Items = Iterator[Window | Event]


@dataclass(slots=True)
class _Input:
    """Output of the pipeline that is still to come.

    A window waits until `wait_until` (monotonic seconds) for the one before it to be taken. In
    step, the next window is not even cut before that. Nothing is processed before `not_before`.
    """

    items: Items
    wait_until: float
    not_before: float = 0.0
    in_step: bool = False
    done: Callable[[Exception | None], None] | None = None


class StreamScorer:
    """Passes windows to the scheduler and results to the pipeline; emits every event.

    Input is processed in order and without blocking: where a window has to wait, the rest of the
    input waits behind it.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        scheduler: Scheduler,
        metrics: Metrics,
        adapter: str,
        emit: Emit,
        tenant: str = DEFAULT,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._adapter = adapter
        self._tenant = tenant
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._inputs: deque[_Input] = deque()
        self._held: Window | None = None
        """The window for which the first input waits."""
        self._stalled: Slot | None = None
        """The slot that has to become free before an input in step goes on."""
        self._hurried = False
        self._open: list[Window] = []
        """Windows that were offered and are neither scored nor lost, oldest first."""
        self._timer: asyncio.Handle | None = None
        self._changed = asyncio.Event()
        self._slots = {
            c: scheduler.slot(self, pipeline.embeddings, tenant) for c in pipeline.channels
        }

    @property
    def processed(self) -> int:
        """The position, in samples at 16 kHz, up to which all speech was scored or lost."""
        return min((w.fresh for w in self._open), default=self._pipeline.position)

    @property
    def pending(self) -> bool:
        """True while input waits to be processed."""
        return bool(self._inputs)

    def feed(
        self,
        items: Items,
        wait_until: float,
        not_before: float = 0.0,
        done: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """Process a pipeline's output as soon as possible, after the input before it.

        Until `wait_until` (monotonic seconds) a window waits for the one before it to be taken;
        after that it replaces it, because a live stream must not fall behind. `done` is called
        after the last item, with the exception if `items` raised one.
        """
        self._inputs.append(_Input(items, wait_until, not_before, done=done))
        if len(self._inputs) == 1:
            self._run()

    async def exhaust(self, items: Items) -> None:
        """Process a recording's output to its end; every window is scored, none is replaced.

        The next window is cut only after the one before it was taken, as in a live stream, so a
        recording and a live stream get the same windows. Raises what `items` raises.
        """
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._inputs.append(_Input(items, math.inf, in_step=True, done=done))
        self._run()
        await future

    def advance(self, seconds: float) -> bool:
        """Process input `seconds` before its time; return False if it waits for the model."""
        if not self._inputs or self._held is not None:
            return False
        if self._inputs[0].not_before <= time.monotonic():
            return False
        for waiting in self._inputs:
            waiting.not_before -= seconds
        self._wake()
        return True

    def drop_waiting(self) -> None:
        """Drop the input that waits for its time; its `done` is called."""
        now = time.monotonic()
        dropped = [waiting for waiting in self._inputs if waiting.not_before > now]
        self._inputs = deque(waiting for waiting in self._inputs if waiting.not_before <= now)
        for waiting in dropped:
            if waiting.done is not None:
                waiting.done(None)
        self._wake()

    def release(self) -> None:
        """Process input now that waits for its time; windows still wait for those before them."""
        for waiting in self._inputs:
            waiting.not_before = 0.0
        self._wake()

    def hurry(self) -> None:
        """Process all input now: no window waits for the one before it any more."""
        self._hurried = True
        self._wake()

    async def drain(self, deadline: float) -> None:
        """Wait until all input is processed, or until `deadline` (monotonic seconds)."""
        await self._until(lambda: not self._inputs, deadline)

    async def settle(self, deadline: float) -> None:
        """Wait until every window offered is scored or lost, or until `deadline`."""
        await self._until(lambda: not self._open and not self._inputs, deadline)

    def withdraw(self) -> None:
        """Drop all input, and all windows that wait or are being scored, without an event."""
        for slot in self._slots.values():
            slot.withdraw()
        self._open.clear()
        self._inputs.clear()
        self._held = self._stalled = None
        self._changed.set()

    def forget(self) -> None:
        """Drop the references to the session and the slots, at the end of a stream.

        In a reference cycle they would keep their audio until a full garbage collection, which
        comes some hundred sessions later.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._emit = lambda event, waited_s: None
        self._inputs.clear()
        self._slots.clear()

    def fail_pending(self) -> None:
        """Report every window that was not scored in time as lost (`inference_timeout`)."""
        late = list(self._open)
        self.withdraw()
        for window in late:
            self._metrics.window("inference_timeout")
            self._emit_all(self._pipeline.failed(window, "inference_timeout"))

    # -- input -------------------------------------------------------------------------------

    def _run(self) -> None:
        """Process the first input as far as it goes; then the next in a later iteration."""
        self._timer = None
        if not self._inputs:
            return
        first, now = self._inputs[0], time.monotonic()
        if not self._hurried and first.not_before > now:
            self._timer = self._loop.call_at(self._loop.time() + first.not_before - now, self._run)
            return
        error: Exception | None = None
        try:
            if not self._process(first):
                return
        except Exception as raised:
            error = raised
        self._inputs.popleft()
        if first.done is not None:
            first.done(error)
        if self._inputs and self._timer is None:
            self._timer = self._loop.call_soon(self._run)
        self._changed.set()

    def _process(self, first: _Input) -> bool:
        """Run an input; return False where it has to wait."""
        if self._stalled is not None:
            if self._stalled.waiting:
                return False
            self._stalled = None
        if self._held is not None:
            if self._must_wait(self._held, first):
                return False
            window, self._held = self._held, None
            if self._offer(window, first):
                return False
        for item in first.items:
            if not isinstance(item, Window):
                self._emit(item, None)
            elif self._must_wait(item, first):
                self._held = item
                return False
            elif self._offer(item, first):
                return False
        return True

    def _must_wait(self, window: Window, first: _Input) -> bool:
        if self._hurried or not self._slots[window.channel].waiting:
            return False
        remaining = first.wait_until - time.monotonic()
        if remaining <= 0:
            return False
        if self._timer is None and remaining < math.inf:
            self._timer = self._loop.call_later(remaining, self._run)
        return True

    def _offer(self, window: Window, first: _Input) -> bool:
        """Offer a window; return whether the input has to wait until it is taken."""
        slot = self._slots[window.channel]
        replaced = slot.offer(window)
        self._open.append(window)
        if replaced is not None:
            self._open.remove(replaced)
            self._metrics.window("superseded")
            self._emit_all(self._pipeline.superseded(replaced, window))
        if first.in_step and slot.waiting and not self._hurried:
            self._stalled = slot
            return True
        return False

    def _wake(self) -> None:
        """Go on with the input in the next iteration of the event loop."""
        if not self._inputs:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self._run)

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            self._changed.clear()
            try:
                # Not wait_for: Python 3.11's loses a cancellation that arrives as the wait ends.
                async with asyncio.timeout(min(remaining, 1e6)):
                    await self._changed.wait()
            except TimeoutError:
                return

    # -- callbacks of the scheduler, see `slot.Listener` -------------------------------------

    def window_taken(self, window: Window) -> None:
        self._pipeline.taken(window)
        if self._held is not None or self._stalled is not None:
            self._wake()

    def window_scored(self, scores: FrameScores, waited_s: float) -> None:
        self._open.remove(scores.window)
        self._metrics.scored(self._adapter, waited_s, self._tenant)
        self._emit_all(self._pipeline.scored(scores), waited_s)
        self._changed.set()

    def window_failed(self, window: Window, reason: GapReason) -> None:
        self._open.remove(window)
        self._metrics.window(reason)
        self._emit_all(self._pipeline.failed(window, reason))
        self._changed.set()

    def _emit_all(self, events: Iterable[Event], waited_s: float | None = None) -> None:
        for event in events:
            self._emit(event, waited_s)
