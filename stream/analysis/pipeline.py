"""Pipeline of one stream: bytes → codec → per channel a resampler and a `ChannelPipeline`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.analysis.activity import ActivityChannel
from stream.analysis.baseline import BaselineSettings
from stream.analysis.channel import ChannelPipeline
from stream.analysis.conversation import Conversation
from stream.analysis.sides import SideMeter
from stream.analysis.talk import TalkDetector
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import VadSettings
from stream.analysis.windows import WindowSettings
from stream.audio.codecs import PcmDecoder
from stream.audio.resample import Resampler
from stream.audio.same_voice import ChannelComparison
from stream.types import (
    SAMPLE_RATE,
    AudioFormat,
    Event,
    FrameScores,
    GapReason,
    ModelInfo,
    Window,
)

SLICE_S = 0.2
"""Seconds of audio that each channel processes in turn, so that events are in order of time."""

LEAST_S = 0.02
"""Seconds of audio that are gathered before resampling and VAD.

Chunks of 10 ms cost 14 % less CPU by this; chunks of 20 ms and more are not delayed.
"""


VOICE_BLOCKS, LAST_BLOCK = 8, 120
"""Blocks of half a second with sound after which two channels can be found to carry one voice, and
after which they are no longer compared."""

VOICE_DB = 4.0
"""Largest difference of the levels of one voice on two channels of a live stream: less than in a
recording, because one side of a call may be silent for its first seconds."""


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """Settings of the analysis of a stream.

    `frames` adds per-frame posteriors to every score, `embeddings` the mean of the frames' features
    to every segment. Both together also add the features of each frame to every score. `baseline`
    moves scores towards what is unusual for the voice. `audio` adds its audio to every segment.
    """

    vad: VadSettings = field(default_factory=VadSettings)
    windows: WindowSettings = field(default_factory=WindowSettings)
    rolling: RollingSettings = field(default_factory=RollingSettings)
    frames: bool = False
    embeddings: bool = False
    baseline: BaselineSettings | None = None
    audio: bool = False


class StreamPipeline:
    """All analysed channels of one stream. Uses no sockets, no clocks and no model.

    `analysed` lists the channel numbers to analyse; of the others only the level is measured, and
    of those among `observed` the voice activity. The `conversation` is that of the observed ones,
    None unless there are several.
    `source_rate` is the rate of a recording in Hz, if it was resampled before `feed`.

    The two channels of a live stream are compared over the first minute with sound. If both carry
    the same voice, only one of them is analysed from then on, and `one_voice` is set; a recording
    was compared before, and says so by `one_voice`.
    """

    def __init__(
        self,
        audio: AudioFormat,
        analysed: Sequence[int],
        model: ModelInfo,
        settings: AnalysisSettings,
        source_rate: int | None = None,
        one_voice: bool = False,
        observed: Sequence[int] = (),
    ) -> None:
        self.embeddings = settings.embeddings
        self._audio = audio
        self._decoder = PcmDecoder(audio)
        self._slice = int(audio.sample_rate * SLICE_S)
        self._least = int(audio.sample_rate * LEAST_S)
        self._gathered: NDArray[np.float32] | None = None
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
                settings.baseline,
                settings.audio,
            )
            for c in analysed
        }
        self._lines = [(c, Resampler(audio.sample_rate), line) for c, line in self.channels.items()]
        """Number, resampler and pipeline of every analysed channel."""
        self._activity: list[tuple[int, Resampler, ActivityChannel]] = []
        """Number, resampler and detector of every channel that is observed and not analysed."""
        self.conversation = self._observe(observed, settings.vad) if len(observed) > 1 else None
        self._comparison = (
            ChannelComparison(audio.sample_rate)
            if audio.channels == 2 and source_rate is None
            else None
        )
        for line in self.channels.values():
            line.scores.one_voice = one_voice
        self.sides = SideMeter(audio.sample_rate, audio.channels, analysed)
        self.received = 0
        """Samples per channel received so far, at the producer's rate."""

    def _observe(self, observed: Sequence[int], vad: VadSettings) -> Conversation:
        """Give every observed channel a detector of talk; return their conversation."""
        talks: dict[int, TalkDetector] = {}
        for number in observed:
            line = self.channels.get(number)
            if line is not None:
                line.talk = talks[number] = TalkDetector()
            else:
                channel = ActivityChannel(vad)
                talks[number] = channel.talk
                self._activity.append((number, Resampler(self._audio.sample_rate), channel))
        return Conversation(talks)

    def _end_conversation(self) -> None:
        """Stop measuring the conversation: both channels carry one voice."""
        self.conversation = None
        self._activity.clear()
        for line in self.channels.values():
            line.talk = None

    @property
    def position(self) -> int:
        """Position of the stream in samples at 16 kHz."""
        return self.received * SAMPLE_RATE // self._audio.sample_rate

    @property
    def due_in(self) -> int:
        """Samples per channel, at the producer's rate, to gather before the next `feed`.

        With fewer, no window and no end of an utterance can come. A `speech.start` could; it waits
        for at most 0.2 s of audio.
        """
        if not self._lines:
            return self._slice
        count = min([line.due_in for _, _, line in self._lines])
        # All resamplers are at the same position.
        return self._lines[0][1].needed(max(1, count))

    def feed(self, data: bytes) -> Iterator[Window | Event]:
        """Process one chunk as sent by the producer; yield windows and events.

        The iterator must be exhausted. Any chunking of the same bytes gives the same windows.
        """
        samples = self._decoder.decode(data)
        self.received += samples.shape[1]
        if self._gathered is not None:
            samples, self._gathered = np.concatenate((self._gathered, samples), axis=1), None
        if samples.shape[1] < self._least:
            self._gathered = samples
            return
        yield from self._analyse(samples)

    def _analyse(self, samples: NDArray[np.float32]) -> Iterator[Window | Event]:
        """Process float32[channels, n]."""
        self.sides.add(samples)
        at, count = 0, samples.shape[1]
        longest = self._slice if self._audio.channels > 1 else count
        while at < count:
            comparison = self._comparison
            size = longest if comparison is None else min(longest, comparison.missing)
            piece = samples[:, at : at + size]
            at += size
            for channel, resampler, pipeline in self._lines:
                yield from pipeline.feed(resampler.push(piece[channel]))
            for channel, resampler, activity in self._activity:
                activity.feed(resampler.push(piece[channel]))
            if self.conversation is not None:
                self.conversation.advance()
            if comparison is not None and comparison.push(piece):
                yield from self._judge(comparison)

    def _judge(self, comparison: ChannelComparison) -> Iterator[Window | Event]:
        """Analyse one channel only from now on if both carry the same voice."""
        counted = comparison.counted
        if counted >= VOICE_BLOCKS and comparison.same(VOICE_DB):
            self._comparison = None
            self._end_conversation()
            kept = comparison.better if len(self._lines) == 2 else self._lines[0][0]
            for channel, _, pipeline in self._lines:
                pipeline.scores.one_voice = True
                if channel != kept:
                    yield from pipeline.flush()
            self._lines = [line for line in self._lines if line[0] == kept]
        elif counted >= LAST_BLOCK:
            self._comparison = None

    def _release(self) -> Iterator[Window | Event]:
        """Process the gathered samples, because none follow without a gap."""
        samples, self._gathered = self._gathered, None
        if samples is not None:
            yield from self._analyse(samples)

    def skip(self, samples: int) -> Iterator[Window | Event]:
        """Advance by exactly `samples` (at the producer's rate) without audio."""
        yield from self._release()
        self.received += samples
        if self._comparison is not None:
            self._comparison.skip()
        for _, resampler, pipeline in self._lines:
            yield from pipeline.feed(resampler.drain())
            yield from pipeline.skip(self.position - pipeline.position)
        for _, resampler, activity in self._activity:
            activity.feed(resampler.drain())
            activity.skip(self.position - activity.position)
        if self.conversation is not None:
            self.conversation.advance()

    def discard(self, data: bytes) -> Iterator[Window | Event]:
        """Advance by the length of a chunk without analysing it; sample alignment is kept."""
        yield from self.skip(self._decoder.discard(data))

    def flush(self) -> Iterator[Window | Event]:
        """End open utterances, so that all speech received so far gets its result."""
        yield from self._release()
        for pipeline in self.channels.values():
            yield from pipeline.flush()

    def finish(self) -> Iterator[Window | Event]:
        """End the stream: flush the resamplers, then end open utterances."""
        yield from self._release()
        for _, resampler, pipeline in self._lines:
            yield from pipeline.feed(resampler.drain())
        for _, resampler, activity in self._activity:
            activity.feed(resampler.drain())
        if self.conversation is not None:
            self.conversation.finish()
        yield from self.flush()

    def realign(self) -> None:
        """Drop the carry, because the producer restarts at a sample boundary."""
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
    def invalid(self) -> int:
        """Samples so far that were NaN or infinite, and became zero."""
        return self._decoder.invalid

    @property
    def peak(self) -> float:
        """Largest magnitude of the samples so far, where the encoding has no full scale (f32le)."""
        return self._decoder.peak

    @property
    def lost(self) -> int:
        """Speech reported as lost, in samples at 16 kHz over all channels."""
        return sum(c.lost for c in self.channels.values())


Infer = Callable[[Window], FrameScores]


def analyse(pipeline: StreamPipeline, chunks: Sequence[bytes], infer: Infer) -> list[Event]:
    """Run all chunks through a pipeline and score each window at once; return the events.

    For tests, benchmarks and training: the same analysis as live, without sockets and queues.
    """
    events: list[Event] = []

    def process(items: Iterator[Window | Event]) -> None:
        for item in items:
            if isinstance(item, Window):
                pipeline.taken(item)
                events.extend(pipeline.scored(infer(item)))
            else:
                events.append(item)

    for chunk in chunks:
        process(pipeline.feed(chunk))
    process(pipeline.finish())
    return events
