"""Events about a session: its settings, its position, its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from stream.labels import Top
from stream.protocol.wire.codes import ClosedReason
from stream.protocol.wire.common import Channel, Stamped
from stream.protocol.wire.conversation import Measured
from stream.protocol.wire.settings import ProducerLimits, Session, SessionDefaults
from stream.protocol.wire.values import (
    Activation,
    Count,
    Dtmf,
    Mark,
    Milliseconds,
    Node,
    ResumeToken,
    Scores,
)


class Terms(TypedDict):
    """Limits, token and server of a session."""

    limits: ProducerLimits
    resume_token: NotRequired[ResumeToken]
    node: Node


class SessionCreatedBody(Terms):
    """The first event of a session: its settings, or the defaults before `session.update`."""

    type: Literal["session.created"]
    session: SessionDefaults | Session


class SessionCreated(Stamped, SessionCreatedBody): ...


class SessionUpdatedBody(Terms):
    """The effective session after `session.update`."""

    type: Literal["session.updated"]
    session: Session


class SessionUpdated(Stamped, SessionUpdatedBody): ...


class SessionResumedBody(TypedDict):
    """The position from which a producer that reattached continues."""

    type: Literal["session.resumed"]
    received_ms: Milliseconds
    received_samples: Count
    """Per channel, at the producer's sample rate."""
    resume_token: NotRequired[ResumeToken]


class SessionResumed(Stamped, SessionResumedBody): ...


class SessionAnnotatedBody(TypedDict):
    """Notes of the producer, with the position of the stream."""

    type: Literal["session.annotated"]
    audio_ms: Milliseconds
    attrs: NotRequired[Mapping[str, Any]]
    dtmf: NotRequired[Dtmf]
    mark: NotRequired[Mark]


class SessionAnnotated(Stamped, SessionAnnotatedBody): ...


class Totals(TypedDict):
    """Totals of a session."""

    audio_ms: Milliseconds
    speech_ms: Milliseconds
    scores: Count
    """Number of `emotion.score` events."""
    segments: Count
    """Number of `emotion.segment` events."""
    dropped_ms: Milliseconds


class ChannelSummary(Channel):
    """An analysed channel over the whole stream, without scores after an objection."""

    scores: Scores
    top: Top | None
    activation: Activation
    speech_ms: Milliseconds
    utterances: Count


class SessionClosedBody(TypedDict):
    """The last event of a session, with its totals."""

    type: Literal["session.closed"]
    reason: ClosedReason
    totals: Totals
    summary: list[ChannelSummary]
    """Each analysed channel over the whole stream, without scores after an objection."""
    conversation: NotRequired[Measured]
    """Absent if it was not measured, and after an objection."""


class SessionClosed(Stamped, SessionClosedBody): ...


class AudioAckBody(TypedDict):
    """Position of the stream; acknowledged audio need not be kept for a resume."""

    type: Literal["audio.ack"]
    received_ms: Milliseconds
    received_samples: Count
    """Per channel, at the producer's sample rate."""
    processed_ms: Milliseconds
    """All speech before this position was scored or reported as lost."""
    dropped_ms: Milliseconds
    """Speech reported as lost so far, over all channels."""


class AudioAck(Stamped, AudioAckBody): ...


class StreamDetachedBody(TypedDict):
    """The position at which the connection of the producer broke; it may return."""

    type: Literal["stream.detached"]
    audio_ms: Milliseconds


class StreamDetached(Stamped, StreamDetachedBody): ...


class StreamPausedBody(TypedDict):
    """The position at which `input.pause` took effect."""

    type: Literal["stream.paused"]
    audio_ms: Milliseconds


class StreamPaused(Stamped, StreamPausedBody): ...


class StreamResumedBody(TypedDict):
    """The position at which audio continues after `input.resume`."""

    type: Literal["stream.resumed"]
    audio_ms: Milliseconds


class StreamResumed(Stamped, StreamResumedBody): ...
