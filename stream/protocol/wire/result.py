"""Result of a recording, `emotide.result.v1`: the types of result.json."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, Share, Stated
from stream.labels import Label, Top
from stream.protocol.wire.common import Channel
from stream.protocol.wire.parts import Quality, ResultModel, WithBaseline
from stream.protocol.wire.trials import RuleTrial
from stream.protocol.wire.values import (
    Activation,
    ChannelNumber,
    Hints,
    Roles,
    Scores,
    Seconds,
    Text,
    Time,
    Utterance,
)
from stream.terms import AudioHint, GapReason

Duration = Annotated[float, Limits(ge=0)]

Granularity = Literal["utterance", "frame"]

ResultHint = Literal[
    "no_speech",
    "too_short",
    "too_long_for_one_verdict",
    AudioHint,
    "low_confidence",
    "truncated",
    "left_out",
    "time_jump",
    "silent_channel",
    "language",
]
"""Reason to doubt the scores of a recording."""


class ResultSource(TypedDict):
    """The file that was analysed."""

    name: Text
    bytes: Annotated[int, Limits(ge=1)]
    sha256: Annotated[str, Limits(pattern=r"^[0-9a-f]{64}$")]
    container: str
    """Name of the format in FFmpeg."""
    codec: str
    """Name of the codec in FFmpeg."""
    sample_rate: Annotated[int, Limits(ge=1)]
    """Sample rate of the file. The analysis uses 16 kHz."""
    channels: Annotated[int, Limits(ge=1)]
    """Channels of the file; the analysed ones are in `channels` of the result."""
    track: NotRequired[Annotated[int, Limits(ge=1)]]
    """Audio track that was analysed, counted from 1."""
    tracks: NotRequired[Annotated[int, Limits(ge=1)]]
    """Audio tracks of the file."""
    gain_db: NotRequired[float]
    """Change of the level before the analysis; negative for audio above full scale."""
    duration_s: Seconds


class ResultOptions(TypedDict):
    """Options of the analysis."""

    granularity: Granularity
    embedding: bool
    denoise: bool
    baseline: NotRequired[bool]
    """True if scores were moved by the baseline of each voice."""
    language: str
    roles: Roles
    track: NotRequired[Annotated[int, Limits(ge=0)]]
    """Audio track that was asked for, counted from 1; 0 is the default one."""


class ResultUtterance(WithBaseline):
    """An utterance and its final scores."""

    utterance: Utterance
    start_s: Seconds
    end_s: Seconds
    scores: Scores
    top: Top | None
    activation: Activation
    quality: Quality
    hints: Hints
    covered: Share
    """Share of the frames of the utterance that were scored."""


class ResultGap(TypedDict):
    """Speech that was not scored, and the reason."""

    start_s: Seconds
    end_s: Seconds
    missing_s: Seconds
    reason: GapReason


class ResultChannel(Channel):
    """A channel that was analysed."""

    speech_s: Seconds
    scores: Scores
    top: Top | None
    activation: Activation
    utterances: list[ResultUtterance]
    gaps: list[ResultGap]


class ResultTimings(TypedDict):
    """Duration of the analysis."""

    decode_s: Duration
    """Seconds until the format of the file was known."""
    analysis_s: Duration
    """Seconds of decoding and analysis."""
    total_s: Duration
    speed: Duration
    """Seconds of audio per second of processing."""


class ChannelFrames(TypedDict):
    """Shares of a channel frame by frame: a row per frame, a column per label."""

    channel: ChannelNumber
    start_s: list[Seconds]
    posteriors: list[list[Share]]


class ResultFrames(TypedDict):
    """Shares frame by frame."""

    hop_s: Duration
    labels: list[Label]
    channels: list[ChannelFrames]


class Result(TypedDict):
    """result.json, `emotide.result.v1`. In `file.done` it has no `frames`."""

    schema: Literal["emotide.result.v1"]
    file: ResultSource
    created: Time
    options: ResultOptions
    model: ResultModel
    hints: Annotated[list[ResultHint], Stated(unique=True)]
    """Reasons to doubt the scores of the whole recording."""
    channels: Annotated[list[ResultChannel], Stated(min_length=1)]
    """The channels that were analysed."""
    timings: ResultTimings
    notice: str
    alerts: NotRequired[list[RuleTrial]]
    """Rules that were tried, with the alerts that they would have raised."""
    frames: NotRequired[ResultFrames]
