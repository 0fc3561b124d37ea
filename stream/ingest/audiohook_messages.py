"""Messages of Genesys AudioHook v2, as far as this server reads them. Pure.

https://developer.genesys.cloud/devapps/audiohook/protocol-reference
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from stream.protocol.errors import ProtocolError

MAX_TEXT = 65_535
"""Characters of a text message, by the protocol."""

MAX_S = 14_400.0
"""Seconds of the longest duration that is accepted."""

UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
NULL = "00000000-0000-0000-0000-000000000000"
"""The conversation and the participant of a connection probe."""

RATE = 8_000
"""Samples per second of every format."""


def _seconds(value: object) -> object:
    """Return the seconds of a duration like "PT1.5S"; anything else is left to the validation."""
    if isinstance(value, str) and value.startswith("PT") and value.endswith("S"):
        return value[2:-1]
    raise ValueError('must be a duration like "PT1.5S"')


Id = Annotated[str, Field(pattern=UUID)]
Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=MAX_S, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=256)]
Number = Annotated[int, Field(ge=0, le=2**53)]


class _Message(BaseModel):
    """Base of messages: names in camel case; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class Envelope(_Message):
    """A message of the client: its number, the last number it received, and its parameters."""

    version: Literal["2"]
    id: Id
    type: Text
    seq: Number
    serverseq: Number
    parameters: dict[str, Any]


class Participant(_Message):
    """The external participant of the conversation."""

    id: Id
    ani: Text = ""
    ani_name: Text = ""
    dnis: Text = ""


class Custom(_Message):
    """Part of `customConfig` that this server uses, from the configuration of the integration."""

    tags: tuple[Text, ...] = ()
    attrs: dict[str, Any] = Field(default_factory=dict)
    disclosed: bool | None = None


class Open(_Message):
    """Start of a session, with the media formats to choose from."""

    organization_id: Id
    conversation_id: Id
    participant: Participant
    media: tuple[dict[str, Any], ...] = Field(max_length=64)
    language: Text = ""
    supported_languages: bool = False
    custom_config: Custom | None = None

    @property
    def is_probe(self) -> bool:
        """True for a connection that Genesys makes when the integration is activated."""
        return self.conversation_id == NULL and self.participant.id == NULL


class Media(_Message):
    """A media format that this server can take."""

    type: Literal["audio"]
    format: Literal["PCMU", "L16"]
    channels: Annotated[tuple[Literal["external", "internal"], ...], Field(min_length=1)]
    rate: Literal[8000]

    @property
    def is_valid(self) -> bool:
        """True if no channel is named twice."""
        return len(set(self.channels)) == len(self.channels)


class Hole(_Message):
    """Audio that the client discarded: where it began, and its length, in seconds."""

    start: Duration
    discarded: Duration


class Update(_Message):
    """A change of the language."""

    language: Text = ""


class Failure(_Message):
    """An error that the client reports."""

    code: Number
    message: Annotated[str, Field(max_length=MAX_TEXT)] = ""


class Close(_Message):
    """The end of the session."""

    reason: Text = "end"


M = TypeVar("M", bound=_Message)


def read(model: type[M], fields: object, kind: str, fatal: bool = False) -> M:
    """Return the parameters of a message. Raises `ProtocolError` that names the field."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        text = f"{kind}: {path}: {reason}" if path else f"{kind}: {reason}"
        raise ProtocolError("invalid_message", text, param=path or None, fatal=fatal) from None


def envelope(text: str) -> Envelope:
    """Return a message of the client. Raises `ProtocolError`, always fatal: its number is lost."""
    if len(text) > MAX_TEXT:
        raise ProtocolError(
            "message_too_large", f"a text message has at most {MAX_TEXT} characters"
        )
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ProtocolError("invalid_message", "text messages must be JSON objects") from None
    return read(Envelope, message, "message", fatal=True)


def choose(offered: tuple[dict[str, Any], ...], channels: str) -> dict[str, Any] | None:
    """Return the medium to select, exactly as it was offered; None if none fits.

    `channels` is "both" or "external": what to prefer. A single external channel is preferred to a
    single internal one, and otherwise the order of the client decides.
    """
    known = [(media, entry) for entry in offered if (media := _media(entry)) is not None]
    wishes = [{"external", "internal"}, {"external"}, {"internal"}]
    if channels == "external":
        wishes = [{"external"}, {"external", "internal"}, {"internal"}]
    for wish in wishes:
        for media, entry in known:
            if set(media.channels) == wish:
                return entry
    return None


def _media(entry: dict[str, Any]) -> Media | None:
    try:
        media = Media.model_validate(entry)
    except ValidationError:
        return None
    return media if media.is_valid else None
