"""Client messages of `emotide.v1`, and everything that clients can configure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stream.alert_rules import AlertRule
from stream.fields import Limits, Role, Share, Stated
from stream.labels import Label
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.alerts import AlertId
from stream.protocol.wire.values import (
    MAX_TAGS,
    ChannelNumber,
    Channels,
    Count,
    Dtmf,
    IntervalMs,
    Mark,
    SampleRate,
    StreamId,
    Tag,
    TenantName,
    WindowMs,
)
from stream.terms import MAX_RULES
from stream.types import MAX_CHANNELS, SAMPLE_RATE, AudioFormat, Encoding

MAX_ATTRS, MAX_ATTRS_BYTES = 64, 8_192
"""Limits of a stream's `attrs`: entries, and bytes of JSON."""

ROOM = 8
"""Levels of JSON that the largest message has around them; orjson encodes 254 in all."""


def checked_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return `attrs` unchanged if they are within the limits.

    They are sent in events and stored with the stream, so they must be small. Raises `ValueError`
    for attributes that are too many, too large, or not plain JSON.
    """
    nested: Any = attrs
    for _ in range(ROOM):
        nested = [nested]
    try:
        size = len(orjson.dumps(nested)) - 2 * ROOM
    except TypeError as error:
        raise ValueError(f"attributes must be plain JSON: {error}") from None
    if len(attrs) > MAX_ATTRS or size > MAX_ATTRS_BYTES:
        raise ValueError(
            f"a stream has at most {MAX_ATTRS} attributes in {MAX_ATTRS_BYTES} bytes of JSON"
        )
    return attrs


Attrs = Annotated[dict[str, Any], AfterValidator(checked_attrs)]


class _Strict(BaseModel):
    """Base of configuration objects: an unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Message(BaseModel):
    """Base of messages: unknown fields are ignored, so that newer clients work."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Audio(_Strict):
    """Audio format of a stream, and the role of each channel."""

    encoding: Encoding = "linear16"
    sample_rate: SampleRate = SAMPLE_RATE
    channels: Channels = 1
    roles: Annotated[tuple[Role, ...], Stated(max_length=MAX_CHANNELS)] = ()
    """One per channel. Default: `speaker`, or `customer` and `agent`."""


class Analysis(_Strict):
    """Analysis settings of a stream; a missing field takes the server's default."""

    interval_ms: IntervalMs | None = None
    window_ms: WindowMs | None = None
    labels: tuple[Label, ...] = ()
    """Labels to send; empty for all."""
    analyse_channels: Annotated[tuple[ChannelNumber, ...], Limits(min_length=1)] | None = None
    """Default: all that the operator allows."""
    frames: bool = False
    """Add the shares of every frame to every score."""
    baseline: bool | None = None
    """Move scores towards what is unusual for the voice."""
    embeddings: bool = False
    """Send an embedding with every segment and, with `frames`, of every frame."""


class Consent(_Strict):
    """Basis on which the speaker is analysed; written to the audit log and sent to subscribers."""

    basis: Annotated[str, Limits(max_length=64)] = ""
    disclosed: bool = False
    """The speaker was informed."""
    ref: Annotated[str, Limits(max_length=128)] = ""
    """Reference to the record of the consent."""


class Publish(_Strict):
    """Sinks that get the stream's events."""

    mqtt: bool = True


class SessionConfig(_Strict):
    """Configuration of a session, by `session.update` or in the URL's query.

    A missing field takes the server's default. Unknown keys are refused.
    """

    audio: Audio = Audio()
    analysis: Analysis = Analysis()
    stream_id: StreamId | None = None
    tags: Annotated[tuple[Tag, ...], Limits(max_length=MAX_TAGS)] = ()
    attrs: Attrs = Field(default_factory=dict)
    """Notes of the producer about the stream."""
    consent: Consent = Consent()
    publish: Publish = Publish()
    results: bool = True
    """Send `speech.*`, `emotion.*`, `conversation` and `alert` on this connection."""

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(self.audio.encoding, self.audio.sample_rate, self.audio.channels)


class SessionUpdate(_Message):
    """Configuration of the session, before the first audio."""

    type: Literal["session.update"]
    session: SessionConfig = SessionConfig()


class InputFlush(_Message):
    """The end of the open utterance now."""

    type: Literal["input.flush"]


class InputPause(_Message):
    """A pause of the analysis."""

    type: Literal["input.pause"]


class InputResume(_Message):
    """The end of a pause of the analysis."""

    type: Literal["input.resume"]
    skipped_ms: Annotated[int, Limits(ge=0, le=14_400_000)] = 0
    """Audio that was not sent; it advances the clock."""


class KeepAlive(_Message):
    """A sign that the client is still there; it resets the idle timer."""

    type: Literal["keepalive"]


class SessionAnnotate(_Message):
    """Notes for subscribers, or an objection of the speaker."""

    type: Literal["session.annotate"]
    attrs: Attrs = Field(default_factory=dict)
    """Merged into the stream's `attrs`; at most 64 in total."""
    dtmf: Dtmf | None = None
    mark: Mark | None = None
    objected: bool = False
    """The speaker objects; the session ends and queued audio is discarded."""


class SessionClose(_Message):
    """The end of the session."""

    type: Literal["session.close"]


Glob = Annotated[str, Limits(min_length=1, max_length=64)]
Globs = Annotated[tuple[Glob, ...], Limits(min_length=1, max_length=64)]
Names = Annotated[tuple[Glob, ...], Limits(max_length=64)]
MinScore = Annotated[dict[Glob, Share], Limits(max_length=64)]
Since = Annotated[dict[str, int], Limits(max_length=10_000)]


class Filter(_Strict):
    """Selection of events by a subscriber; by default all."""

    streams: Globs = ("*",)
    """Globs for `stream_id`; one must match."""
    tags: Names = ()
    """One of them must be a tag of the stream."""
    tenants: Names = ()
    """One of them must be the tenant of the stream. Keys of one tenant need no such filter."""
    roles: Names = ()
    """Events of channels with other roles are omitted."""
    events: Globs = ("*",)
    """Globs for `type`."""
    labels: Names = ()
    """Other labels are omitted from `scores` and `rolling`."""
    min_score: MinScore = Field(default_factory=dict)
    """Events with scores are omitted unless one of these labels has at least this share."""


class Subscribe(_Message):
    """The start of a subscription."""

    type: Literal["subscribe"]
    id: Annotated[str, Limits(min_length=1, max_length=64)] = "s1"
    """Sent back as `sub`. One connection has at most 32 subscriptions."""
    filter: Filter = Filter()
    rate_hz: Annotated[float, Limits(gt=0, le=50)] | None = None
    """Maximum scores per second and channel; of those between, the newest is sent."""
    snapshot: bool = True
    since: Since = Field(default_factory=dict)
    """Last `seq` received, per stream: later events in the replay buffer are sent first.

    A stream of another tenant is named `TENANT/ID`.
    """


class Unsubscribe(_Message):
    """The end of a subscription."""

    type: Literal["unsubscribe"]
    id: str


class ListSubscriptions(_Message):
    """A request for the subscriptions of this connection."""

    type: Literal["list"]


class SetAlertRules(_Message):
    """The rules of this connection, in place of those before; none removes them.

    The key needs the scope `alerts`. The rules end with the connection.
    """

    type: Literal["alert.rules"]
    rules: Annotated[tuple[AlertRule, ...], Limits(max_length=MAX_RULES)] = ()


class AcknowledgeAlert(_Message):
    """The acknowledgement of an open alert: its next steps carry it, for everybody.

    The key needs the scope `alerts`. The stream is of the tenant of the key unless `tenant` names
    another one that it watches.
    """

    type: Literal["alert.acknowledge"]
    stream_id: StreamId
    id: AlertId
    tenant: TenantName | None = None


class FileBegin(_Message):
    """The beginning of an upload; the bytes follow as binary messages, then `file.end`."""

    type: Literal["file.begin"]
    name: Annotated[str, Limits(min_length=1, max_length=255)]
    """Name for people. The content decides the format."""
    size: Count
    """Size in bytes."""
    options: FileOptions = FileOptions()


class FileEnd(_Message):
    """The end of an upload."""

    type: Literal["file.end"]


class FileCancel(_Message):
    """The cancellation of a recording."""

    type: Literal["file.cancel"]


FilesMessage = Annotated[FileBegin | FileEnd | FileCancel | KeepAlive, Field(discriminator="type")]
ProducerMessage = Annotated[
    SessionUpdate
    | InputFlush
    | InputPause
    | InputResume
    | KeepAlive
    | SessionAnnotate
    | SessionClose,
    Field(discriminator="type"),
]
SubscriberMessage = Annotated[
    Subscribe | Unsubscribe | ListSubscriptions | SetAlertRules | AcknowledgeAlert | KeepAlive,
    Field(discriminator="type"),
]
