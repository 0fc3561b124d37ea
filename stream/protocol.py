"""The wire `emotide.v1` without sockets: what clients may say, and how they are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stream.types import SAMPLE_RATE, AudioFormat, Encoding

VERSION = 1
SUBPROTOCOL = "emotide.v1"
MAX_ATTRS, MAX_ATTRS_BYTES = 64, 8_192
MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 48_000, 2
STREAM_ID = r"^[A-Za-z0-9_.:-]{1,64}$"
TAG = r"^[A-Za-z0-9_.:-]{1,64}$"
ROLE = r"^[a-z][a-z0-9_]{0,31}$"

CLOSE_CODES: Mapping[str, int] = {
    "completed": 1000,
    "draining": 1012,
    "message_too_large": 1009,
    "internal_error": 1011,
    "overloaded": 1013,
    "invalid_message": 4400,
    "config_invalid": 4400,
    "unauthorized": 4401,
    "forbidden": 4403,
    "agent_channel_forbidden": 4403,
    "disclosure_required": 4403,
    "objected": 4403,
    "unknown_stream": 4404,
    "idle_timeout": 4408,
    "start_timeout": 4408,
    "slow_consumer": 4408,
    "stream_conflict": 4409,
    "session_expired": 4410,
    "unsupported_encoding": 4415,
    "rate_limited": 4429,
    "quota_exceeded": 4429,
}
"""Error code → WebSocket close code: 4000 + its HTTP analogue, or one of RFC 6455's own."""

RETRYABLE = {"draining", "internal_error", "overloaded", "rate_limited", "quota_exceeded"}


Query = Mapping[str, Sequence[str]]


class ProtocolError(Exception):
    """A peer's message or wish that is refused; `param` names the field, `message` the remedy."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        fatal: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = _short(message, 300)
        self.param = None if param is None else _short(param, 64)
        self.fatal = fatal
        self.retry_after_s = retry_after_s

    @property
    def close_code(self) -> int:
        return CLOSE_CODES.get(self.code, 4400)

    def body(self) -> dict[str, Any]:
        """The `error` event's own fields; absent where they say nothing."""
        body: dict[str, Any] = {
            "type": "error",
            "code": self.code,
            "message": self.message,
            "retryable": self.code in RETRYABLE,
            "fatal": self.fatal,
        }
        if self.param is not None:
            body["param"] = self.param
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        return body


def _short(text: str, most: int) -> str:
    """What a client sent may be quoted, but never at length."""
    return text if len(text) <= most else text[: most - 3] + "..."


def checked_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes as they are. They travel in events and stay with the stream, so they are small.

    Raises `ValueError` for those that are too many, too large, or no plain JSON.
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
    """Configuration: an unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Message(BaseModel):
    """A message: unknown fields are tolerated, so that newer clients work."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Role = Annotated[str, Field(pattern=ROLE)]
Tag = Annotated[str, Field(pattern=TAG)]


class Audio(_Strict):
    """What the producer will send."""

    encoding: Encoding = "linear16"
    sample_rate: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)] = SAMPLE_RATE
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1
    roles: tuple[Role, ...] = ()


class Analysis(_Strict):
    """How it is to be analysed; what is left out is the server's default."""

    interval_ms: Annotated[int, Field(ge=250, le=10_000)] | None = None
    window_ms: Annotated[int, Field(ge=1_000, le=10_000)] | None = None
    labels: tuple[str, ...] = ()
    analyse_channels: (
        Annotated[tuple[Annotated[int, Field(ge=0, lt=MAX_CHANNELS)], ...], Field(min_length=1)]
        | None
    ) = None
    frames: bool = False


class Consent(_Strict):
    """On what basis the speaker is analysed, and whether the speaker was told."""

    basis: Annotated[str, Field(max_length=64)] = ""
    disclosed: bool = False
    ref: Annotated[str, Field(max_length=128)] = ""


class Publish(_Strict):
    mqtt: bool = True


class SessionConfig(_Strict):
    """All that a producer may configure, by `session.update` or in the URL's query."""

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
    """What a subscriber wants to hear; globs in `streams` and `events`, all of it by default."""

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
_PRODUCER: TypeAdapter[ProducerMessage] = TypeAdapter(ProducerMessage)
_SUBSCRIBER: TypeAdapter[SubscriberMessage] = TypeAdapter(SubscriberMessage)


def parse_producer(text: str) -> ProducerMessage:
    """A producer's TEXT message. Raises `ProtocolError`; other services' words are understood."""
    return _parse(_PRODUCER, _translate(_load(text)))


def parse_subscriber(text: str) -> SubscriberMessage:
    """A subscriber's TEXT message. Raises `ProtocolError`."""
    return _parse(_SUBSCRIBER, _load(text))


def parse_query(query: Query) -> SessionConfig | None:
    """The session that a URL's query describes (as of `urllib.parse.parse_qs`).

    None when it has no `sample_rate`: then a `session.update` has to come. Raises `ProtocolError`
    for values that do not fit and for keys that mean nothing here.
    """
    config = _configured(_wishes(query))
    return config if "sample_rate" in query else None


_FLAG = TypeAdapter(bool)


def parse_flag(query: Query, key: str) -> bool:
    """A yes or no in a URL's query; no when it is not there. Raises `ProtocolError`."""
    try:
        return _FLAG.validate_python(query.get(key, ["false"])[-1])
    except ValidationError:
        raise ProtocolError("config_invalid", f"{key}: say true or false", param=key) from None


def overlay(query: Query, update: SessionConfig) -> SessionConfig:
    """What `session.update` says, and what the URL's query said of the rest."""
    said = update.model_dump(exclude_unset=True)
    wishes = _wishes(query)
    for key, value in said.items():
        deep = isinstance(value, dict) and key != "attrs"
        wishes[key] = {**wishes.get(key, {}), **value} if deep else value
    return _configured(wishes)


def _configured(wishes: dict[str, Any]) -> SessionConfig:
    try:
        return SessionConfig.model_validate(wishes)
    except ValidationError as error:
        raise _refusal(error) from None


def _wishes(query: Query) -> dict[str, Any]:
    known = {"resume", "last_seq", "takeover"}
    audio: dict[str, Any] = {}
    analysis: dict[str, Any] = {}
    session: dict[str, Any] = {"audio": audio, "analysis": analysis}
    for key, values in query.items():
        value = values[-1]
        if key in ("encoding", "sample_rate", "channels"):
            audio[key] = value
        elif key == "roles":
            audio["roles"] = value.split(",")
        elif key in ("interval_ms", "window_ms", "frames"):
            analysis[key] = value
        elif key == "labels":
            analysis["labels"] = value.split(",")
        elif key in ("stream_id", "results"):
            session[key] = value
        elif key == "tag":
            session["tags"] = list(values)
        elif key == "disclosed":
            session["consent"] = {"disclosed": value}
        elif key not in known:
            raise ProtocolError("config_invalid", f"unknown query parameter {key!r}", param=key)
    return session


def _load(text: str) -> dict[str, Any]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(
            "invalid_message",
            f"text messages must be JSON objects: {error}; send audio as binary messages",
            fatal=False,
        ) from None
    if not isinstance(message, dict):
        kind = type(message).__name__
        raise ProtocolError(
            "invalid_message", f"text messages must be JSON objects, not {kind}", fatal=False
        )
    return message


ALIASES = {"KeepAlive": "keepalive", "Finalize": "input.flush", "CloseStream": "session.close"}
"""Deepgram's control words."""


def _translate(message: dict[str, Any]) -> dict[str, Any]:
    """Vosk's, FunASR's and Deepgram's control messages in our words."""
    if "type" in message:
        kind = message["type"]
        return {"type": ALIASES[kind]} if isinstance(kind, str) and kind in ALIASES else message
    if "eof" in message or message.get("is_speaking") is False:
        return {"type": "session.close"}
    config = message.get("config")
    rate = config.get("sample_rate") if isinstance(config, dict) else message.get("audio_fs")
    if isinstance(config, dict) or "is_speaking" in message:
        audio = {"sample_rate": SAMPLE_RATE if rate is None else rate}
        return {"type": "session.update", "session": {"audio": audio}}
    return message


_M = TypeVar("_M")


def _parse(adapter: TypeAdapter[_M], message: dict[str, Any]) -> _M:
    try:
        return adapter.validate_python(message)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ProtocolError:
    """The first thing wrong with a message, in one line that names the field."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if path and path[0] in _TYPES:
        del path[0]
    param, kind = ".".join(path), first["type"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        if kind == "union_tag_not_found":
            return ProtocolError(
                "invalid_message", "the message has no type", param="type", fatal=False
            )
        tag, expected = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        text = f"unknown message type {str(tag)[:64]!r}; this endpoint knows {expected}"
        return ProtocolError("unknown_message", text, param="type", fatal=False)
    shown = _shown(first["input"])
    if path[-1:] == ["encoding"]:
        return ProtocolError(
            "unsupported_encoding",
            f"{param}: {shown} is not one of {', '.join(get_args(Encoding))}",
            param=param,
        )
    reason = "is not a known key" if kind == "extra_forbidden" else first["msg"]
    text = f"{param}: {reason}" + ("" if kind == "extra_forbidden" else f" (got {shown})")
    configures = error.title == "SessionConfig" or path[:1] in (["session"], ["filter"])
    code = "config_invalid" if configures else "invalid_message"
    return ProtocolError(code, text, param=param, fatal=configures)


def _shown(value: Any) -> str:
    try:
        return re.sub(r"\s+", " ", repr(value))[:64]
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"


_TYPES = {
    "session.update",
    "input.flush",
    "input.pause",
    "input.resume",
    "keepalive",
    "session.annotate",
    "session.close",
    "subscribe",
    "unsubscribe",
    "list",
}
