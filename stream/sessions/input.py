"""Audio of one producer on its way to the pipeline: gathered, paced, bounded in bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from stream.analysis.pipeline import StreamPipeline
from stream.inference.scoring import StreamScorer
from stream.sessions.pump import Pump
from stream.sessions.realtime import RealtimeMeter
from stream.telemetry.metrics import Metrics
from stream.types import AudioFormat, Event, Window

FLUSH_WAIT_S = 0.2
"""Longest wait of a flush for the window before it; short enough not to be noticed."""

GATHER_BYTES = 32_768
"""Gathered bytes that are processed at once: more than any format fills in the pump's period."""

HIGH_BYTES, LOW_BYTES = 131_072, 65_536
"""Unprocessed bytes above which the producer is not read, and below which it is read again."""


class AudioInput:
    """Input of one stream: audio, holes and flushes, processed in the order in which they came.

    The pump processes what was gathered. Audio that is ahead of real time by more than `ahead_s`
    seconds waits; `on_full` and `on_room` are called when more than `HIGH_BYTES` wait, and when
    they fell below `LOW_BYTES`. `on_error` gets the exception of audio that could not be processed,
    `on_rate` the ratio of `RealtimeMeter` that shows a wrong sample rate. `paused` says that audio
    only advances the clock.
    """

    def __init__(
        self,
        audio: AudioFormat,
        pipeline: StreamPipeline,
        scorer: StreamScorer,
        pump: Pump,
        metrics: Metrics,
        ahead_s: float,
        paused: Callable[[], bool],
        on_error: Callable[[Exception], None],
        on_rate: Callable[[float], None],
    ) -> None:
        self._audio = audio
        self._pipeline = pipeline
        self._scorer = scorer
        self._pump = pump
        self._metrics = metrics
        self._ahead_s = ahead_s
        self._paused = paused
        self._on_error = on_error
        self._on_rate = on_rate
        self._meter = RealtimeMeter()
        # Only float samples can be invalid; each message of them is processed on its own, so that
        # one invalid message does not discard the audio around it.
        self._gather_bytes = 0 if audio.encoding == "f32le" else GATHER_BYTES
        self._gathered = bytearray()
        self._is_pumped = False
        self._ahead_until = 0.0
        """Time until which the audio is ahead of real time (monotonic seconds)."""
        self._bytes = 0
        self._is_full = False
        self._skipped = 0
        self.waiting_bytes = 0
        self.on_full: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None

    @property
    def received(self) -> int:
        """Samples per channel received, at the producer's rate, whether processed or not."""
        return self._bytes // self._audio.bytes_per_frame + self._skipped

    def add(self, data: bytes) -> None:
        """Add audio; it is processed within `PERIOD_S` seconds."""
        self._gathered += data
        self._bytes += len(data)
        if len(self._gathered) > self._gather_bytes:
            self._process()
        elif not self._is_pumped:
            self._is_pumped = True
            self._pump.add(self)

    def process(self) -> None:
        """Process the audio gathered so far."""
        self._is_pumped = False
        self._process()

    def _process(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        if not data:
            return
        now, duration = time.monotonic(), self._count(data)
        ahead = self._meter.add(duration, now)
        self._ahead_until = now + ahead
        self._wait(len(data))
        self._scorer.feed(
            self._feed(data),
            wait_until=self._ahead_until,
            not_before=now + ahead - self._ahead_s,
            done=lambda error: self._done(len(data), error),
        )
        if (ratio := self._meter.suspicious_rate()) is not None:
            self._on_rate(ratio)

    def discard(self, data: bytes) -> None:
        """Advance the clock by audio that is not analysed."""
        self._process()
        self._bytes += len(data)
        self._count(data)
        self._then(self._pipeline.discard(data))

    def skip(self, samples: int) -> None:
        """Advance the clock by `samples` (at the producer's rate) that were not sent."""
        self._process()
        self._skipped += samples
        self._then(self._pipeline.skip(samples))

    def flush(self, then: Callable[[], None] = lambda: None) -> None:
        """Make windows due for all speech received so far, then call `then`."""
        self._process()
        until = min(self._ahead_until, time.monotonic() + FLUSH_WAIT_S)
        self._scorer.feed(_followed(self._pipeline.flush(), then), until)

    def call(self, then: Callable[[], None]) -> None:
        """Call `then` after everything received so far was processed."""
        self._process()
        self._then(_followed(iter(()), then))

    def realign(self) -> None:
        """Drop an incomplete sample, because the producer restarts at a sample boundary."""
        self._bytes -= self._bytes % self._audio.bytes_per_frame
        self.call(self._pipeline.realign)

    async def finish(self, deadline: float, patience_s: float) -> None:
        """Process all input and end the stream, by `deadline` (monotonic seconds).

        After `patience_s` seconds, windows no longer wait for the ones before them.
        """
        self._process()
        self._scorer.feed(self._pipeline.finish(), deadline)
        self._scorer.release()
        await self._scorer.drain(min(deadline, time.monotonic() + patience_s))
        self._scorer.hurry()
        await self._scorer.drain(deadline)

    def forget(self) -> None:
        """Drop the references to the session, at its end; see `StreamScorer.forget`."""
        self._paused = lambda: False
        self._on_error = lambda error: None
        self._on_rate = lambda ratio: None
        self.on_full = self.on_room = None
        self._gathered.clear()

    def _count(self, data: bytes) -> float:
        """Count audio in the metrics; return its duration in seconds."""
        duration = len(data) / self._audio.bytes_per_second
        self._metrics.audio(len(data), duration)
        return duration

    def _feed(self, data: bytes) -> Iterator[Window | Event]:
        # Decided when the audio is processed: a pause applies to the audio after it.
        yield from (self._pipeline.discard if self._paused() else self._pipeline.feed)(data)

    def _then(self, items: Iterator[Window | Event]) -> None:
        self._scorer.feed(items, self._ahead_until)

    def _wait(self, size: int) -> None:
        self.waiting_bytes += size
        if self.waiting_bytes > HIGH_BYTES and not self._is_full:
            self._is_full = True
            if self.on_full is not None:
                self.on_full()

    def _done(self, size: int, error: Exception | None) -> None:
        self.waiting_bytes -= size
        if self._is_full and self.waiting_bytes < LOW_BYTES:
            self._is_full = False
            if self.on_room is not None:
                self.on_room()
        if error is not None:
            self._on_error(error)


def _followed(
    items: Iterator[Window | Event], then: Callable[[], None]
) -> Iterator[Window | Event]:
    yield from items
    then()
