"""The wire `emotide.v1` without sockets: text and queries → messages, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import orjson
from pydantic import TypeAdapter, ValidationError

from stream.protocol.errors import ProtocolError
from stream.protocol.messages import FilesMessage, ProducerMessage, SessionConfig, SubscriberMessage
from stream.types import SAMPLE_RATE, Encoding

VERSION = 1
SUBPROTOCOL = "emotide.v1"

Query = Mapping[str, Sequence[str]]


_PRODUCER: TypeAdapter[ProducerMessage] = TypeAdapter(ProducerMessage)
_SUBSCRIBER: TypeAdapter[SubscriberMessage] = TypeAdapter(SubscriberMessage)
_FILES: TypeAdapter[FilesMessage] = TypeAdapter(FilesMessage)


def parse_producer(text: str) -> ProducerMessage:
    """A producer's TEXT message. Raises `ProtocolError`; other services' words are understood."""
    return _parse(_PRODUCER, _translate(_load(text)))


def parse_subscriber(text: str) -> SubscriberMessage:
    """A subscriber's TEXT message. Raises `ProtocolError`."""
    return _parse(_SUBSCRIBER, _load(text))


def parse_files(text: str) -> FilesMessage:
    """What is said on /v1/files. Raises `ProtocolError`, never fatal: other files go on."""
    try:
        return _parse(_FILES, _load(text))
    except ProtocolError as error:
        error.fatal = False
        raise


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
        elif key in ("interval_ms", "window_ms", "frames", "embeddings"):
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
    configures = error.title == "SessionConfig" or path[:1] in (
        ["session"],
        ["filter"],
        ["options"],
    )
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
    "file.begin",
    "file.end",
    "file.cancel",
    "subscribe",
    "unsubscribe",
    "list",
}
