"""Settings and limits of a session."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict, final

from stream.fields import Limits, Stated
from stream.labels import Label
from stream.protocol.wire.parts import Model
from stream.protocol.wire.values import (
    ChannelNumber,
    Channels,
    Positive,
    Roles,
    SampleRate,
    Tags,
)
from stream.terms import Encoding


class AudioSettings(TypedDict):
    """Audio format of a stream, and the role of each channel."""

    encoding: Encoding
    sample_rate: SampleRate
    channels: Channels
    roles: Roles


class AnalysisDefaults(TypedDict):
    """Default analysis settings of a server."""

    interval_ms: Annotated[int, Limits(ge=240)]
    window_ms: Annotated[int, Limits(ge=20)]
    model: Model


class AnalysisSettings(AnalysisDefaults):
    """Effective analysis settings of a session."""

    labels: list[Label]
    analyse_channels: Annotated[list[ChannelNumber], Stated(min_length=1)]
    activity_channels: NotRequired[list[ChannelNumber]]
    """Channels whose voice activity the conversation is measured from."""
    frames: bool
    embeddings: bool
    baseline: NotRequired[bool]
    """True if scores are moved by the baseline of each voice."""
    horizons_s: list[Annotated[int, Limits(ge=1, le=600)]]


class ConsentSettings(TypedDict):
    """Consent as sent by the producer; its `ref` is only in the audit log."""

    basis: str
    disclosed: bool


class PublishSettings(TypedDict):
    """Sinks that get the stream's events."""

    mqtt: bool


# `final` lets type checkers tell the two by the field `tags`.
@final
class SessionDefaults(TypedDict):
    """Defaults for fields that `session.update` omits."""

    audio: AudioSettings
    analysis: AnalysisDefaults


@final
class Session(TypedDict):
    """Effective settings of a session."""

    audio: AudioSettings
    analysis: AnalysisSettings
    tags: Tags
    consent: ConsentSettings
    publish: PublishSettings
    results: bool


class ProducerLimits(TypedDict):
    """Limits of a producer on this server."""

    max_message_bytes: Annotated[int, Limits(ge=1024)]
    max_frame_ms: Annotated[int, Limits(ge=100)]
    idle_timeout_s: Positive
    max_session_s: Positive
    resume_s: Annotated[float, Limits(ge=0)]
