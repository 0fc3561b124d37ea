"""Parsing of `emotide.v1`: text messages and URL queries become messages or `ProtocolError`s."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import orjson
from pydantic import TypeAdapter, ValidationError

from stream.protocol.errors import ProtocolError
from stream.protocol.messages import FilesMessage, ProducerMessage, SessionConfig, SubscriberMessage
from stream.protocol.wire.codes import ErrorCode
from stream.terms import Encoding

Query = Mapping[str, Sequence[str]]
"""Query parameters of a URL, as `urllib.parse.parse_qs` returns them."""


MAX_TEXT = 65_536
"""Characters of a text message; the largest that makes sense are far smaller."""

Translate = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns foreign control messages into those of `emotide.v1`."""

_PRODUCER: TypeAdapter[ProducerMessage] = TypeAdapter(ProducerMessage)
_SUBSCRIBER: TypeAdapter[SubscriberMessage] = TypeAdapter(SubscriberMessage)
_FILES: TypeAdapter[FilesMessage] = TypeAdapter(FilesMessage)


def _types(*unions: Any) -> frozenset[str]:
    """Return the values of `type` of all messages in discriminated unions."""
    models = [model for union in unions for model in get_args(get_args(union)[0])]
    return frozenset(get_args(model.model_fields["type"].annotation)[0] for model in models)


_TYPES = _types(ProducerMessage, SubscriberMessage, FilesMessage)


def parse_producer(text: str, translate: Translate = lambda message: message) -> ProducerMessage:
    """Parse a producer's TEXT message, after `translate`. Raises `ProtocolError`."""
    return _parse(_PRODUCER, translate(_load(text)))


def parse_subscriber(text: str) -> SubscriberMessage:
    """Parse a subscriber's TEXT message. Raises `ProtocolError`."""
    return _parse(_SUBSCRIBER, _load(text))


def parse_files(text: str) -> FilesMessage:
    """Parse a TEXT message on /v1/files.

    Raises `ProtocolError`, never fatal, so that other recordings are not affected.
    """
    try:
        return _parse(_FILES, _load(text))
    except ProtocolError as error:
        error.fatal = False
        raise


def parse_query(query: Query) -> SessionConfig | None:
    """Return the session that a URL's query describes.

    None without `sample_rate`: then a `session.update` must follow. Raises `ProtocolError` for
    invalid values and for unknown keys.
    """
    config = _validate(_nested(query))
    return config if "sample_rate" in query else None


_FLAG = TypeAdapter(bool)


def parse_flag(query: Query, key: str) -> bool:
    """Return a boolean query parameter; False if it is missing. Raises `ProtocolError`."""
    try:
        return _FLAG.validate_python(query.get(key, ["false"])[-1])
    except ValidationError:
        raise ProtocolError("config_invalid", f"{key}: must be true or false", param=key) from None


def overlay(query: Query, update: SessionConfig) -> SessionConfig:
    """Return the configuration of `session.update`, completed from the URL's query.

    Raises `ProtocolError`.
    """
    fields = _nested(query)
    for key, value in update.model_dump(exclude_unset=True).items():
        deep = isinstance(value, dict) and key != "attrs"
        fields[key] = {**fields.get(key, {}), **value} if deep else value
    return _validate(fields)


def _validate(fields: dict[str, Any]) -> SessionConfig:
    try:
        return SessionConfig.model_validate(fields)
    except ValidationError as error:
        raise protocol_error(error) from None


def _nested(query: Query) -> dict[str, Any]:
    """Return the query as the fields of a `SessionConfig`. Raises `ProtocolError`."""
    handled_elsewhere = {"resume", "last_seq", "takeover"}
    audio: dict[str, Any] = {}
    analysis: dict[str, Any] = {}
    session: dict[str, Any] = {"audio": audio, "analysis": analysis}
    for key, values in query.items():
        value = values[-1]
        if key in ("encoding", "sample_rate", "channels"):
            audio[key] = value
        elif key == "roles":
            audio["roles"] = value.split(",")
        elif key in ("interval_ms", "window_ms", "frames", "embeddings", "baseline"):
            analysis[key] = value
        elif key == "labels":
            analysis["labels"] = value.split(",")
        elif key in ("stream_id", "results"):
            session[key] = value
        elif key == "tag":
            session["tags"] = list(values)
        elif key == "disclosed":
            session["consent"] = {"disclosed": value}
        elif key not in handled_elsewhere:
            raise ProtocolError("config_invalid", f"unknown query parameter {key!r}", param=key)
    return session


def _load(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT:
        # A megabyte of JSON takes 100 ms to parse and to validate.
        raise ProtocolError(
            "invalid_message",
            f"a text message has at most {MAX_TEXT} characters; send audio as binary messages",
            fatal=False,
        )
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


_M = TypeVar("_M")


def _parse(adapter: TypeAdapter[_M], message: dict[str, Any]) -> _M:
    try:
        return adapter.validate_python(message)
    except ValidationError as error:
        raise protocol_error(error) from None


def protocol_error(error: ValidationError) -> ProtocolError:
    """Return the first problem of a message as one line that names the field."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if path and path[0] in _TYPES:
        del path[0]
    param, kind = ".".join(path), first["type"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        if kind == "union_tag_not_found":
            return ProtocolError(
                "invalid_message",
                "the message has no type; every message needs the field type",
                param="type",
                fatal=False,
            )
        tag, expected = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        text = f"unknown message type {str(tag)[:64]!r}; this endpoint accepts {expected}"
        return ProtocolError("unknown_message", text, param="type", fatal=False)
    quoted = _quote(first["input"])
    if path[-1:] == ["encoding"]:
        return ProtocolError(
            "unsupported_encoding",
            f"{param}: {quoted} is not one of {', '.join(get_args(Encoding))}",
            param=param,
        )
    message = first["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(first["input"], str) and "\n" in first["input"]:
        reason = message  # names a field of the text by itself
    else:
        reason = "is not a known key" if kind == "extra_forbidden" else f"{message} (got {quoted})"
    # A problem of the whole message has no path.
    text = f"{param}: {reason}" if path else reason
    configures = error.title in ("SessionConfig", "FileQuery", "_WaitQuery") or path[:1] in (
        ["session"],
        ["filter"],
        ["options"],
    )
    code: ErrorCode = "config_invalid" if configures else "invalid_message"
    return ProtocolError(code, text, param=param, fatal=configures)


def _quote(value: Any) -> str:
    try:
        return re.sub(r"\s+", " ", repr(value))[:64]
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
