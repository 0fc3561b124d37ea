"""The connection between a stream's pipeline and its slots in the scheduler."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator

from stream.analysis.pipeline import StreamPipeline
from stream.inference.scheduler import Scheduler
from stream.telemetry.metrics import Metrics
from stream.types import Event, FrameScores, GapReason, Window

Emit = Callable[[Event, float | None], None]
"""Receives an event and, for scores, the seconds since its window was due."""


class StreamScorer:
    """Passes windows to the scheduler and results to the pipeline; emits every event."""

    def __init__(
        self,
        pipeline: StreamPipeline,
        scheduler: Scheduler,
        metrics: Metrics,
        adapter: str,
        emit: Emit,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._adapter = adapter
        self._emit = emit
        self._skip_waiting = False
        self._open: list[Window] = []
        """Windows that were offered and are neither scored nor lost, oldest first."""
        self._slots = {c: scheduler.slot(self, pipeline.embeddings) for c in pipeline.channels}

    @property
    def processed(self) -> int:
        """The position, in samples at 16 kHz, up to which all speech was scored or lost."""
        return min((w.fresh for w in self._open), default=self._pipeline.position)

    async def drive(self, items: Iterator[Window | Event], deadline: float) -> None:
        """Run a pipeline's output to its end.

        Until `deadline` (monotonic seconds), a window waits until the one before it is taken.
        After that it replaces it, because reading a connection must not wait for the model.
        """
        for item in items:
            if not isinstance(item, Window):
                self._emit(item, None)
                continue
            slot = self._slots[item.channel]
            remaining = deadline - time.monotonic()
            if remaining > 0 and not self._skip_waiting:
                await slot.wait_free(remaining)
            replaced = slot.offer(item)
            self._open.append(item)
            if replaced is not None:
                self._open.remove(replaced)
                self._metrics.window("superseded")
                self._emit_all(self._pipeline.superseded(replaced, item))

    async def exhaust(self, items: Iterator[Window | Event]) -> None:
        """Run a recording's output to its end; every window is scored, none is replaced.

        The next window is cut only after the one before it was taken, as in a live stream, so a
        recording and a live stream get the same windows.
        """
        for item in items:
            if not isinstance(item, Window):
                self._emit(item, None)
                continue
            slot = self._slots[item.channel]
            slot.offer(item)
            self._open.append(item)
            await slot.wait_free(math.inf)

    def skip_waiting(self, skip: bool = True) -> None:
        """Make `drive` replace pending windows at once, without waiting until they are taken."""
        self._skip_waiting = skip
        if skip:
            for slot in self._slots.values():
                slot.skip_waiting()

    async def settle(self, deadline: float) -> None:
        """Wait until every window offered is scored or lost, or until `deadline` (monotonic)."""
        for slot in self._slots.values():
            await slot.wait_idle(max(0.0, deadline - time.monotonic()))

    def withdraw(self) -> None:
        """Drop all windows that wait or are being scored, without an event."""
        for slot in self._slots.values():
            slot.withdraw()
        self._open.clear()

    def forget(self) -> None:
        """Drop the references to the session and the slots, at the end of a stream.

        In a reference cycle they would keep their audio until a full garbage collection, which
        comes some hundred sessions later.
        """
        self._emit = lambda event, waited_s: None
        self._slots.clear()

    def fail_pending(self) -> None:
        """Report every window that was not scored in time as lost (`inference_timeout`)."""
        late = list(self._open)
        self.withdraw()
        for window in late:
            self._metrics.window("inference_timeout")
            self._emit_all(self._pipeline.failed(window, "inference_timeout"))

    # -- callbacks of the scheduler, see `slot.Listener` -------------------------------------

    def window_taken(self, window: Window) -> None:
        self._pipeline.taken(window)

    def window_scored(self, scores: FrameScores, waited_s: float) -> None:
        self._open.remove(scores.window)
        self._metrics.scored(self._adapter, waited_s)
        self._emit_all(self._pipeline.scored(scores), waited_s)

    def window_failed(self, window: Window, reason: GapReason) -> None:
        self._open.remove(window)
        self._metrics.window(reason)
        self._emit_all(self._pipeline.failed(window, reason))

    def _emit_all(self, events: Iterable[Event], waited_s: float | None = None) -> None:
        for event in events:
            self._emit(event, waited_s)
