"""Audio of one producer on its way to the pipeline: gathered, paced, bounded in bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from stream.analysis.pipeline import StreamPipeline
from stream.audio.raw_format import Finding, FormatCheck
from stream.inference.scoring import StreamScorer
from stream.sessions.ahead import Ahead
from stream.sessions.pump import Lane
from stream.sessions.realtime import ArrivalMeter, RealtimeMeter
from stream.telemetry.metrics import Metrics
from stream.types import AudioFormat, Event, Window

FLUSH_WAIT_S = 0.2
"""Longest wait of a flush for the window before it; short enough not to be noticed."""

GATHER_BYTES = 32_768
"""Gathered bytes that are processed at once, unless the format fills more in `GATHER_S`."""

GATHER_S = 0.2
"""Seconds of audio that are gathered in any case while no event is due."""

ARRIVAL_S = 0.06
"""Seconds of audio after which the speed of arrival is measured."""

HIGH_BYTES, LOW_BYTES = 131_072, 65_536
"""Unprocessed bytes above which a stream shares the memory of `Ahead`, and is not read any more if
there is no room; and below which it is read again in any case."""

ROOM = 0.75
"""Share of the memory of `Ahead` below which producers that were stopped are read again."""


class AudioInput:
    """Input of one stream: audio, holes and flushes, processed in the order in which they came.

    The pump processes what was gathered. Audio that is ahead of real time by more than `ahead_s`
    seconds waits, at most until real time reaches it, or shorter as `Ahead` permits; `on_full` and
    `on_room` are called when no more may wait, and when there is room again. `on_rest` gets
    the number of chunks that must still come before an event can be due, and the seconds of each.
    `on_error` gets the exception of audio that could not be processed, `on_processed` is called
    after other audio.
    `on_finding` gets what `check` found.
    `on_speed` gets the speed of `ArrivalMeter` that points to a wrong format. `paused` says that
    audio only advances the clock.
    """

    def __init__(
        self,
        audio: AudioFormat,
        check: FormatCheck,
        pipeline: StreamPipeline,
        scorer: StreamScorer,
        pump: Lane,
        ahead: Ahead,
        metrics: Metrics,
        ahead_s: float,
        paused: Callable[[], bool],
        on_finding: Callable[[Finding | None], None],
        on_error: Callable[[Exception], None],
        on_processed: Callable[[], None],
        on_speed: Callable[[float], None],
    ) -> None:
        self._audio = audio
        self._check = check
        self._pipeline = pipeline
        self._scorer = scorer
        self._pump = pump
        self._metrics = metrics
        self._ahead_s = ahead_s
        self._paused = paused
        self._on_finding = on_finding
        self._on_error = on_error
        self._on_processed = on_processed
        self._on_speed = on_speed
        self._shared = ahead
        self._meter = RealtimeMeter()
        self._arrival = ArrivalMeter()
        self._arrival_bytes = int(ARRIVAL_S * audio.bytes_per_second)
        self._arrived = 0
        """Bytes that came since the speed of arrival was measured."""
        self._gather_bytes = max(GATHER_BYTES, int(GATHER_S * audio.bytes_per_second))
        self._gathered = bytearray()
        self._gathers_since = 0.0
        """Time of the first gathered message (monotonic seconds)."""
        self._due_bytes = 0
        """Gathered bytes with which an event may be due."""
        self._chunk_bytes = 0
        """Bytes of the newest chunk; the next ones are expected to have as many."""
        self._is_pumped = self._is_due = False
        self._ahead_until = 0.0
        """Time until which the audio is ahead of real time (monotonic seconds)."""
        self._bytes = 0
        self._held = 0
        """Bytes of the shared memory that this stream holds."""
        self._is_full = False
        self._skipped = 0
        self._acknowledged = 0
        self.waiting_bytes = 0
        self.on_full: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.on_rest: Callable[[int, float], None] | None = None

    @property
    def received(self) -> int:
        """Samples per channel received, at the producer's rate, whether processed or not."""
        return self._bytes // self._audio.bytes_per_frame + self._skipped

    @property
    def acknowledged(self) -> int:
        """Samples per channel, as `received`, without those that wait for real time.

        A producer that keeps what is not acknowledged loses nothing if this process ends.
        """
        waiting = self.waiting_bytes if self.is_behind else 0
        samples = self.received - waiting // self._audio.bytes_per_frame
        self._acknowledged = max(self._acknowledged, samples)
        return self._acknowledged

    def add(self, data: bytes, received: int) -> None:
        """Add audio of a message of `received` bytes; see `Pump` for when it is processed."""
        self._arrived += len(data)
        if self._arrived >= self._arrival_bytes:
            self._measure_arrival()
        if not self._gathered:
            self._gathers_since = time.monotonic()
        self._gathered += data
        self._chunk_bytes = received
        self._bytes += received
        if len(self._gathered) > self._gather_bytes:
            self._process()
        elif len(self._gathered) >= self._due_bytes:
            if not self._is_due:
                self._is_pumped = self._is_due = True
                self._pump.hasten(self)
        elif not self._is_pumped:
            self._is_pumped = True
            self._pump.add(self)

    def _measure_arrival(self) -> None:
        """Measure the speed of arrival: when audio came, not when it was processed."""
        seconds, self._arrived = self._arrived / self._audio.bytes_per_second, 0
        speed = self._arrival.add(seconds, time.monotonic())
        if speed is not None:
            self._on_speed(speed)

    def process(self) -> None:
        """Process the audio gathered so far."""
        self._is_pumped = self._is_due = False
        self._process()

    @property
    def is_behind(self) -> bool:
        """True while audio waits for real time."""
        return self.waiting_bytes > 0 and self._ahead_until - self._ahead_s > time.monotonic()

    def advance(self, seconds: float) -> bool:
        """Process what is due within `seconds`, unless the model is late."""
        if self._scorer.advance(seconds):
            self._meter.advance(seconds)
            self._ahead_until -= seconds
        return self.is_behind

    def _process(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        if not data:
            return
        if not self._check.done:
            self._on_finding(self._check.inspect(data))
        now = time.monotonic()
        # In pieces, each of which waits for its own time.
        for begin in range(0, len(data), self._gather_bytes):
            self._put(data[begin : begin + self._gather_bytes], now)

    def _put(self, data: bytes, now: float) -> None:
        # What came while it was gathered is not ahead of real time.
        ahead = max(0.0, self._meter.add(self._count(data), now) - (now - self._gathers_since))
        self._ahead_until = now + ahead
        self._wait(len(data))
        self._scorer.feed(
            self._feed(data),
            wait_until=self._ahead_until,
            not_before=now + ahead - self._ahead_s,
            done=lambda error: self._done(len(data), error),
        )
        if ahead > self._ahead_s:
            self._shared.add(self)

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
        until = self._ahead_until
        if not self.is_behind:
            until = min(until, time.monotonic() + FLUSH_WAIT_S)
        self._scorer.feed(_followed(self._pipeline.flush(), then), until)

    def call(self, then: Callable[[], None]) -> None:
        """Call `then` after everything received so far was processed."""
        self._process()
        self._then(_followed(iter(()), then))

    def drop_waiting(self) -> None:
        """Drop audio that waits for real time, as if it had not been received.

        The producer of a broken connection has it still, as it was not acknowledged.
        """
        self._process()
        if not self.is_behind:
            return
        before = self.waiting_bytes
        self._scorer.drop_waiting()
        dropped = before - self.waiting_bytes
        self._bytes -= dropped
        seconds = dropped / self._audio.bytes_per_second
        self._meter.advance(seconds)
        self._ahead_until -= seconds

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
        self._on_finding = lambda finding: None
        self._on_error = lambda error: None
        self._on_processed = lambda: None
        self._on_speed = lambda speed: None
        self.on_full = self.on_room = self.on_rest = None
        self._gathered.clear()
        self.waiting_bytes = 0
        self._share()
        self._shared.remove(self)

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
        self._share()
        if self._is_full or self.waiting_bytes <= HIGH_BYTES or self._shared.has_room(self._held):
            return
        self._is_full = True
        if self.on_full is not None:
            self.on_full()

    def _done(self, size: int, error: Exception | None) -> None:
        self.waiting_bytes -= size
        self._share()
        if self._is_full and (
            self.waiting_bytes < LOW_BYTES or self._shared.has_room(self._held, ROOM)
        ):
            self._is_full = False
            self._arrival.restart()
            if self.on_room is not None:
                self.on_room()
        if error is not None:
            self._on_error(error)
        else:
            if not self.waiting_bytes:
                self._due_bytes = self._pipeline.due_in * self._audio.bytes_per_frame
                self._rest()
            self._on_processed()

    def _rest(self) -> None:
        size, missing = self._chunk_bytes, self._due_bytes - len(self._gathered)
        if self.on_rest is not None and size and missing > size:
            self.on_rest(-(-missing // size), size / self._audio.bytes_per_second)

    def _share(self) -> None:
        """Count what is above `HIGH_BYTES` in the shared memory."""
        held = max(0, self.waiting_bytes - HIGH_BYTES)
        self._shared.bytes += held - self._held
        self._held = held


def _followed(
    items: Iterator[Window | Event], then: Callable[[], None]
) -> Iterator[Window | Event]:
    yield from items
    then()
