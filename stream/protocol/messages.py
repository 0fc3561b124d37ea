"""Client messages of `emotide.v1`, and everything that clients can configure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stream.fields import Role
from stream.types import MAX_CHANNELS, MAX_RATE, MIN_RATE, SAMPLE_RATE, AudioFormat, Encoding

MAX_ATTRS, MAX_ATTRS_BYTES = 64, 8_192
"""Limits of a stream's `attrs`: entries, and bytes of JSON."""
STREAM_ID = r"^[A-Za-z0-9_.:-]{1,64}$"
TAG = r"^[A-Za-z0-9_.:-]{1,64}$"


def checked_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return `attrs` unchanged if they are within the limits.

    They are sent in events and stored with the stream, so they must be small. Raises `ValueError`
    for attributes that are too many, too large, or not plain JSON.
    """
    try:
        size = len(orjson.dumps(attrs))
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


Tag = Annotated[str, Field(pattern=TAG)]


class Audio(_Strict):
    """Audio format of a stream, and the role of each channel."""

    encoding: Encoding = "linear16"
    sample_rate: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)] = SAMPLE_RATE
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1
    roles: tuple[Role, ...] = ()


class Analysis(_Strict):
    """Analysis settings of a stream; a missing field takes the server's default."""

    interval_ms: Annotated[int, Field(ge=250, le=10_000)] | None = None
    window_ms: Annotated[int, Field(ge=1_000, le=10_000)] | None = None
    labels: tuple[str, ...] = ()
    analyse_channels: (
        Annotated[tuple[Annotated[int, Field(ge=0, lt=MAX_CHANNELS)], ...], Field(min_length=1)]
        | None
    ) = None
    frames: bool = False
    embeddings: bool = False


class Consent(_Strict):
    """Basis on which the speaker is analysed, and whether the speaker was informed."""

    basis: Annotated[str, Field(max_length=64)] = ""
    disclosed: bool = False
    ref: Annotated[str, Field(max_length=128)] = ""


class Publish(_Strict):
    """Sinks that get the stream's events."""

    mqtt: bool = True


class SessionConfig(_Strict):
    """Configuration of a session, by `session.update` or in the URL's query."""

    audio: Audio = Audio()
    analysis: Analysis = Analysis()
    stream_id: Annotated[str, Field(pattern=STREAM_ID)] | None = None
    tags: Annotated[tuple[Tag, ...], Field(max_length=8)] = ()
    attrs: Attrs = Field(default_factory=dict)
    consent: Consent = Consent()
    publish: Publish = Publish()
    results: bool = True

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(self.audio.encoding, self.audio.sample_rate, self.audio.channels)


class SessionUpdate(_Message):
    type: Literal["session.update"]
    session: SessionConfig = SessionConfig()


class InputFlush(_Message):
    type: Literal["input.flush"]


class InputPause(_Message):
    type: Literal["input.pause"]


class InputResume(_Message):
    type: Literal["input.resume"]
    skipped_ms: Annotated[int, Field(ge=0, le=14_400_000)] = 0


class KeepAlive(_Message):
    type: Literal["keepalive"]


class SessionAnnotate(_Message):
    type: Literal["session.annotate"]
    attrs: Attrs = Field(default_factory=dict)
    dtmf: Annotated[str, Field(pattern=r"^[0-9A-D*#]{1,32}$")] | None = None
    mark: Annotated[str, Field(max_length=128)] | None = None
    objected: bool = False


class SessionClose(_Message):
    type: Literal["session.close"]


Glob = Annotated[str, Field(min_length=1, max_length=64)]
Globs = Annotated[tuple[Glob, ...], Field(min_length=1, max_length=64)]
Names = Annotated[tuple[Glob, ...], Field(max_length=64)]


class Filter(_Strict):
    """Selection of events by a subscriber: globs in `streams` and `events`; by default all."""

    streams: Globs = ("*",)
    tags: Names = ()
    roles: Names = ()
    events: Globs = ("*",)
    labels: Names = ()
    min_score: Annotated[dict[Glob, Annotated[float, Field(ge=0, le=1)]], Field(max_length=64)] = (
        Field(default_factory=dict)
    )


class Subscribe(_Message):
    type: Literal["subscribe"]
    id: Annotated[str, Field(min_length=1, max_length=64)] = "s1"
    filter: Filter = Filter()
    rate_hz: Annotated[float, Field(gt=0, le=50)] | None = None
    snapshot: bool = True
    since: Annotated[dict[str, int], Field(max_length=10_000)] = Field(default_factory=dict)


class Unsubscribe(_Message):
    type: Literal["unsubscribe"]
    id: str


class ListSubscriptions(_Message):
    type: Literal["list"]


Language = Annotated[str, Field(pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$", max_length=35)]
"""Language tag (RFC 5646), or an empty string."""


class FileOptions(_Strict):
    """Options of a recording's analysis."""

    granularity: Literal["utterance", "frame"] = "utterance"
    embedding: bool = False
    denoise: bool = False
    language: Language = ""
    roles: Annotated[tuple[Role, ...], Field(max_length=MAX_CHANNELS)] = ()
    disclosed: bool = False


class FileBegin(_Message):
    type: Literal["file.begin"]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    size: Annotated[int, Field(ge=0)]
    options: FileOptions = FileOptions()


class FileEnd(_Message):
    type: Literal["file.end"]


class FileCancel(_Message):
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
    Subscribe | Unsubscribe | ListSubscriptions | KeepAlive, Field(discriminator="type")
]
