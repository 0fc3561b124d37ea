"""A stream's pipeline and its places in the batcher, brought together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator

from stream.analysis.pipeline import StreamPipeline
from stream.inference.scheduler import Scheduler
from stream.telemetry.metrics import Metrics
from stream.types import Event, FrameScores, GapReason, Window

Tell = Callable[[Event, float | None], None]
"""Takes an event and, for scores, the seconds since its window was due."""


class StreamScorer:
    """Drives windows into the batcher and results back into the pipeline; tells every event."""

    def __init__(
        self,
        pipeline: StreamPipeline,
        scheduler: Scheduler,
        metrics: Metrics,
        adapter: str,
        tell: Tell,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._adapter = adapter
        self._tell = tell
        self._hurried = False
        self._open: list[Window] = []
        self._slots = {c: scheduler.slot(self, pipeline.embeddings) for c in pipeline.channels}

    @property
    def processed(self) -> int:
        """Up to where all speech was scored or told as lost, in samples at 16 kHz."""
        return min((w.fresh for w in self._open), default=self._pipeline.position)

    async def drive(self, items: Iterator[Window | Event], patience: float) -> None:
        """Run a pipeline's output to its end.

        Until `patience` (monotonic seconds), a window waits for the one before it to be taken;
        after that it replaces it, because a reader must not wait for the model.
        """
        for item in items:
            if not isinstance(item, Window):
                self._tell(item, None)
                continue
            slot = self._slots[item.channel]
            early = patience - time.monotonic()
            if early > 0 and not self._hurried:
                await slot.free(early)
            replaced = slot.offer(item)
            self._open.append(item)
            if replaced is not None:
                self._open.remove(replaced)
                self._metrics.window("superseded")
                self._tell_all(self._pipeline.superseded(replaced, item))

    async def exhaust(self, items: Iterator[Window | Event]) -> None:
        """Run a recording's output to its end: every window has its turn, none is replaced.

        The next is cut only once the one before it was taken, as it is in a call that is heard
        while it is spoken; so both get the same windows.
        """
        for item in items:
            if not isinstance(item, Window):
                self._tell(item, None)
                continue
            slot = self._slots[item.channel]
            slot.offer(item)
            self._open.append(item)
            await slot.free(math.inf)

    def hurry(self, hurried: bool = True) -> None:
        """While hurried, nobody waits for a turn: somebody else needs the stream now."""
        self._hurried = hurried
        if hurried:
            for slot in self._slots.values():
                slot.hurry()

    async def settle(self, deadline: float) -> None:
        """Wait until everything offered has been told, at most until `deadline` (monotonic)."""
        for slot in self._slots.values():
            await slot.idle(max(0.0, deadline - time.monotonic()))

    def withdraw(self) -> None:
        """Forget what waits or is being scored; it is not told."""
        for slot in self._slots.values():
            slot.withdraw()
        self._open.clear()

    def forget(self) -> None:
        """Let go of session and slots at the end.

        In a circle they would keep their audio until the collector looks at everything, which is
        some hundred sessions later.
        """
        self._tell = lambda event, waited_s: None
        self._slots.clear()

    def give_up(self) -> None:
        """Tell what was not scored in time as lost."""
        late = list(self._open)
        self.withdraw()
        for window in late:
            self._metrics.window("inference_timeout")
            self._tell_all(self._pipeline.failed(window, "inference_timeout"))

    # -- the batcher's listener --------------------------------------------------------------

    def taken(self, window: Window) -> None:
        self._pipeline.taken(window)

    def scored(self, scores: FrameScores, waited_s: float) -> None:
        self._open.remove(scores.window)
        self._metrics.scored(self._adapter, waited_s)
        self._tell_all(self._pipeline.scored(scores), waited_s)

    def failed(self, window: Window, reason: GapReason) -> None:
        self._open.remove(window)
        self._metrics.window(reason)
        self._tell_all(self._pipeline.failed(window, reason))

    def _tell_all(self, events: Iterable[Event], waited_s: float | None = None) -> None:
        for event in events:
            self._tell(event, waited_s)
