"""Events of the analysis, in a live stream and of a recording."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from stream.fields import Share
from stream.labels import Top
from stream.protocol.wire.common import Channel, OfFile, Reply, Stamped
from stream.protocol.wire.parts import Frames, ModelName, Packed, Quality, WithBaseline
from stream.protocol.wire.values import (
    Activation,
    Count,
    Hints,
    Milliseconds,
    Rolling,
    Scores,
    Utterance,
)
from stream.terms import End, GapReason, InferenceFailure, Trigger


class SpeechStartBody(Channel):
    """The beginning of an utterance."""

    type: Literal["speech.start"]
    utterance: Utterance
    audio_ms: Milliseconds


class SpeechStart(Stamped, SpeechStartBody): ...


class FileSpeechStartBody(OfFile, SpeechStartBody): ...


class FileSpeechStart(Reply, FileSpeechStartBody): ...


class SpeechEndBody(Channel):
    """The end of an utterance, which lasted from `audio_start_ms` to `audio_ms`."""

    type: Literal["speech.end"]
    utterance: Utterance
    audio_ms: Milliseconds
    audio_start_ms: Milliseconds
    trigger: End


class SpeechEnd(Stamped, SpeechEndBody): ...


class FileSpeechEndBody(OfFile, SpeechEndBody): ...


class FileSpeechEnd(Reply, FileSpeechEndBody): ...


class Emotion(WithBaseline):
    """Scores with their position, quality and model."""

    utterance: Utterance
    audio_start_ms: Milliseconds
    audio_end_ms: Milliseconds
    scores: Scores
    rolling: Rolling
    top: Top | None
    activation: Activation
    quality: Quality
    hints: Hints
    model: ModelName


class WithFrames(TypedDict):
    """Shares of every frame, if they were requested."""

    frames: NotRequired[Frames]


class EmotionScoreBody(Channel, Emotion, WithFrames):
    """Scores during speech: of a window, and the means over longer horizons."""

    type: Literal["emotion.score"]
    trigger: Trigger
    speech_ratio: Share
    """Share of speech in the window."""
    latency_ms: Count
    """Milliseconds from the window being due to its score."""


class EmotionScore(Stamped, EmotionScoreBody): ...


class FileEmotionScoreBody(OfFile, EmotionScoreBody): ...


class FileEmotionScore(Reply, FileEmotionScoreBody): ...


class Segment(Channel, Emotion):
    """The final scores of one whole utterance; empty if nothing could be scored."""

    type: Literal["emotion.segment"]
    trigger: End
    covered: Share
    """Share of the frames of the utterance that were scored."""


class WithEmbedding(TypedDict):
    """The embedding of an utterance, if it was requested."""

    embedding: NotRequired[Packed]


class EmotionSegmentBody(Segment, WithEmbedding):
    """The final scores of one whole utterance; empty if nothing could be scored."""


class EmotionSegment(Stamped, EmotionSegmentBody): ...


class FileEmotionSegmentBody(OfFile, Segment): ...


class FileEmotionSegment(Reply, FileEmotionSegmentBody): ...


class Gap(Channel):
    """Speech that will never be scored, and the reason."""

    type: Literal["stream.gap"]
    audio_ms: Milliseconds
    audio_end_ms: Milliseconds
    missing_ms: Milliseconds
    """Speech lost between the two positions."""


class StreamGapBody(Gap):
    """Speech that will never be scored, and the reason."""

    reason: GapReason


class StreamGap(Stamped, StreamGapBody): ...


class FileStreamGapBody(OfFile, Gap):
    """Speech that could not be scored. Recordings wait, so `overload` is not a reason."""

    reason: InferenceFailure


class FileStreamGap(Reply, FileStreamGapBody): ...


AnalysisBody = (
    SpeechStartBody | SpeechEndBody | EmotionScoreBody | EmotionSegmentBody | StreamGapBody
)
"""Event of the analysis, of a live stream or a recording."""

FileAnalysisBody = (
    FileSpeechStartBody
    | FileSpeechEndBody
    | FileEmotionScoreBody
    | FileEmotionSegmentBody
    | FileStreamGapBody
)
"""Event of the analysis of a recording."""
