"""Payloads on MQTT, and the body of `GET /v1/info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, Role, Share
from stream.labels import Label
from stream.protocol.wire.alerts import AlertStep
from stream.protocol.wire.groups import GroupPeriods, Labels, WithActivation, WithTop
from stream.protocol.wire.parts import Model, Quality
from stream.protocol.wire.values import (
    Count,
    Hints,
    Milliseconds,
    Node,
    Tag,
    TenantName,
    Time,
    Utterance,
    Version,
)
from stream.terms import EmployeeBasis, End, StreamState

UnixMs = Annotated[int, Limits(ge=0)]
"""Unix time in milliseconds."""

TopicLevel = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.%-]+$")]
"""One level of a topic."""

ChangeKind = Literal["new", "update", "end"]
"""`new`: speech begins; `update`: the strongest emotion changes; `end`: the final scores."""


class Privacy(TypedDict):
    """Privacy settings of a server."""

    analyse_roles: list[Role]
    activity_roles: NotRequired[list[Role]]
    """Roles whose voice activity the conversation is measured from."""
    employee_basis: EmployeeBasis
    require_disclosure: bool
    disclosure: str
    audio_kept: bool
    """True if the audio of utterances that listeners mark is kept; other live audio never is."""
    recordings_kept_s: Annotated[float, Limits(ge=0)]
    """Seconds for which results of recordings are kept, with their audio.

    0: no recordings are accepted.
    """


class Feedback(TypedDict):
    """Labels from listeners: `POST /v1/feedback`."""

    enabled: bool
    audio: bool
    """True if the audio of a marked utterance is stored."""
    labels: list[Label]
    """Labels that a listener can choose from."""


class History(TypedDict):
    """Finished sessions in a database."""

    enabled: bool
    keep_days: Annotated[float, Limits(gt=0)] | None
    """Days after which a session is deleted; null: never, or nothing is kept."""
    recordings: bool
    """True if results of recordings are kept as well."""


class Info(TypedDict):
    """Description of a server."""

    node: Node
    name: Literal["emotide"]
    version: str
    protocol: Literal["emotide.v1"]
    model: Model | None
    recordings_model: NotRequired[Model | None]
    """Model that analyses recordings."""
    login: bool
    """True if a key is required: see `POST /v1/token`."""
    limits: Mapping[str, float]
    """Section `limits` of the configuration."""
    privacy: Privacy
    feedback: NotRequired[Feedback]
    history: NotRequired[History]
    notice: str


class OfNode(TypedDict):
    """The server that published a payload."""

    v: Version
    node: Node


class MqttInfo(OfNode, Info):
    """Description of the server, as in `GET /v1/info`."""


class Stats(TypedDict):
    """Numbers of connections and windows of a server."""

    sessions: Count
    """Streams whose producer is connected."""
    parked: Count
    """Streams that wait for their producer to return."""
    subscribers: Count
    windows_waiting: Count
    uptime_s: Count


class MqttStats(OfNode, Stats):
    """Statistics of the server."""

    t: UnixMs


class OfTenant(TypedDict, total=False):
    """The tenant of a stream; absent for the default one."""

    tenant: TenantName


class MqttState(OfTenant):
    """Description and state of a stream."""

    v: Version
    t: UnixMs
    stream: TopicLevel
    node: Node
    state: StreamState
    started: Time
    roles: Sequence[TopicLevel]
    analysed: Sequence[TopicLevel]
    tags: Annotated[Sequence[Tag], Limits(max_length=8)]


class OfChannel(TypedDict):
    """The channel that a payload is about."""

    v: Version
    t: UnixMs
    stream: TopicLevel
    role: TopicLevel


class MqttChannel(Labels, OfChannel, WithTop, WithActivation):
    """Scores of a channel."""


class MqttScore(MqttChannel):
    """The newest window's scores, one number per label at the top level."""

    speech_ratio: Share
    audio_ms: Milliseconds


class MqttEnd(OfChannel):
    """The last message under a retained topic of a channel: its stream has ended."""

    state: Literal["ended"]


class MqttSegment(MqttChannel, Quality):
    """Final scores of an utterance. No `top` if nothing could be scored."""

    utterance: Utterance
    trigger: End
    audio_start_ms: Milliseconds
    audio_end_ms: Milliseconds
    covered: Share
    hints: Hints


class UtteranceRecord(TypedDict):
    """State of an utterance."""

    stream: TopicLevel
    role: TopicLevel
    utterance: Utterance
    start_ms: Milliseconds
    end_ms: Milliseconds | None
    top: Label | None
    top_score: Share | None
    covered: NotRequired[Share]


class MqttAlert(Labels, AlertStep):
    """A step of an alert, with the scores and the utterance that it rests on."""

    v: Version
    t: UnixMs
    stream: TopicLevel
    role: NotRequired[TopicLevel]
    utterance: NotRequired[Utterance]
    speech_s: NotRequired[Annotated[float, Limits(ge=0)]]
    hints: NotRequired[Hints]


class MqttConversation(OfChannel):
    """Conversation of the last minute, and since the beginning (`call_`), seen from one channel."""

    audio_ms: Milliseconds
    silence_now_ms: Milliseconds
    silence_ms: Milliseconds
    dead_air_ms: Milliseconds
    talk_ms: Milliseconds
    talk_share: NotRequired[Share]
    overlap_ms: Milliseconds
    turns: Count
    response_ms: NotRequired[Milliseconds]
    longest_turn_ms: Milliseconds
    call_silence_ms: Milliseconds
    call_dead_air_ms: Milliseconds
    call_talk_ms: Milliseconds
    call_talk_share: NotRequired[Share]
    call_overlap_ms: Milliseconds
    call_turns: Count
    call_response_ms: NotRequired[Milliseconds]
    call_longest_turn_ms: Milliseconds


class MqttEvent(TypedDict):
    """A change of an utterance.

    `before` is null for `new`, and for an `end` whose beginning was not published.
    """

    v: Version
    type: ChangeKind
    before: UtteranceRecord | None
    after: UtteranceRecord


class MqttSummary(GroupPeriods, OfNode):
    """Summary of a group, without the names of its streams.

    No labels if there was no speech for 30 s.
    """

    t: UnixMs
    group: TopicLevel
