"""The straight line of one stream: bytes → codec → resampling → one `ChannelPipeline` each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stream.analysis.channel import ChannelPipeline
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import VadSettings
from stream.analysis.windows import WindowSettings
from stream.audio.codecs import InvalidAudio, PcmDecoder
from stream.audio.resample import Resampler
from stream.types import (
    SAMPLE_RATE,
    AudioFormat,
    Event,
    FrameScores,
    GapReason,
    ModelInfo,
    Window,
)

SLICE_S = 0.1
"""Channels take turns at most this far apart, so their events come in the order of time."""


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How a stream is analysed.

    `frames` adds per-frame posteriors to every score, `embeddings` their mean features to every
    segment; both together add the features of the frames to every score as well.
    """

    vad: VadSettings = field(default_factory=VadSettings)
    windows: WindowSettings = field(default_factory=WindowSettings)
    rolling: RollingSettings = field(default_factory=RollingSettings)
    frames: bool = False
    embeddings: bool = False


class StreamPipeline:
    """All analysed channels of one stream. Knows no sockets, no clocks and no model.

    `analysed` are the channel numbers to analyse; the others are dropped undecided and unheard.
    `source_rate` in Hz is that of the recording, where it was resampled before it came here.
    """

    def __init__(
        self,
        audio: AudioFormat,
        analysed: Sequence[int],
        model: ModelInfo,
        settings: AnalysisSettings,
        source_rate: int | None = None,
    ) -> None:
        self.embeddings = settings.embeddings
        self._audio = audio
        self._decoder = PcmDecoder(audio)
        self._resamplers = {c: Resampler(audio.sample_rate) for c in analysed}
        self.channels = {
            c: ChannelPipeline(
                c,
                source_rate or audio.sample_rate,
                model,
                settings.vad,
                settings.windows,
                settings.rolling,
                settings.frames,
                settings.embeddings,
            )
            for c in analysed
        }
        self.received = 0
        """Samples per channel taken from the producer so far, at the producer's rate."""

    @property
    def position(self) -> int:
        """Where the stream is, in samples at 16 kHz."""
        return self.received * SAMPLE_RATE // self._audio.sample_rate

    def feed(self, data: bytes) -> Iterator[Window | Event]:
        """Take one chunk of the wire; yields windows and events. Must be run to its end.

        Any chunking of the same bytes gives the same windows. Raises `InvalidAudio` before the
        first yield when the chunk cannot be decoded; time then goes on without it (`skip`).
        """
        whole = self._decoder.whole(data)
        try:
            samples = self._decoder.decode(data)
        except InvalidAudio:
            yield from self.skip(whole)
            raise
        self.received += whole
        step = max(1, int(self._audio.sample_rate * SLICE_S))
        for start in range(0, whole, step):
            for channel, pipeline in self.channels.items():
                piece = samples[channel, start : start + step]
                yield from pipeline.feed(self._resamplers[channel].push(piece))

    def skip(self, samples: int) -> Iterator[Window | Event]:
        """Go `samples` (at the producer's rate) further without audio, exactly."""
        self.received += samples
        for channel, pipeline in self.channels.items():
            yield from pipeline.feed(self._resamplers[channel].drain())
            yield from pipeline.skip(self.position - pipeline.position)

    def discard(self, data: bytes) -> Iterator[Window | Event]:
        """Let the time of a chunk go by without hearing it; its bytes keep their alignment."""
        yield from self.skip(self._decoder.discard(data))

    def flush(self) -> Iterator[Window | Event]:
        """End open utterances, so that all speech heard so far gets its result."""
        for pipeline in self.channels.values():
            yield from pipeline.flush()

    def finish(self) -> Iterator[Window | Event]:
        """The producer is done: give out what the resamplers hold, then end open utterances."""
        for channel, pipeline in self.channels.items():
            yield from pipeline.feed(self._resamplers[channel].drain())
        yield from self.flush()

    def realign(self) -> None:
        """The producer starts again at a sample boundary: forget a partial sample."""
        self._decoder.drop_carry()

    def taken(self, window: Window) -> None:
        self.channels[window.channel].taken(window)

    def scored(self, scores: FrameScores) -> list[Event]:
        return self.channels[scores.window.channel].scored(scores)

    def superseded(self, old: Window, new: Window) -> list[Event]:
        return self.channels[old.channel].superseded(old, new)

    def failed(self, window: Window, reason: GapReason) -> list[Event]:
        return self.channels[window.channel].failed(window, reason)

    @property
    def lost(self) -> int:
        """Speech that was reported as lost, in samples at 16 kHz over all channels."""
        return sum(c.lost for c in self.channels.values())


Infer = Callable[[Window], FrameScores]


def analyse(pipeline: StreamPipeline, chunks: Sequence[bytes], infer: Infer) -> list[Event]:
    """Run a whole recording through a pipeline with a backend that is never late.

    What tests and recordings use: the same line as live, without sockets and queues.
    """
    events: list[Event] = []

    def take(items: Iterator[Window | Event]) -> None:
        for item in items:
            if isinstance(item, Window):
                pipeline.taken(item)
                events.extend(pipeline.scored(infer(item)))
            else:
                events.append(item)

    for chunk in chunks:
        take(pipeline.feed(chunk))
    take(pipeline.finish())
    return events
