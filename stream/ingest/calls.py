"""Sessions of telephone calls, as telephony dialects open them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from pydantic import ValidationError

from stream.ingest.dialect import Annotate, Command, Start
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import SessionAnnotate, SessionConfig
from stream.protocol.parsing import MAX_TEXT, protocol_error
from stream.protocol.wire.values import NAME
from stream.types import AudioFormat

KEYS = r"[0-9A-D*#]{1,32}"


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """Defaults of calls that do not state them: the role of a single voice, the disclosure."""

    role: str = "customer"
    disclosed: bool = False


def start(
    audio: AudioFormat,
    call_id: str | None,
    options: Mapping[str, object],
    defaults: CallDefaults,
    roles: tuple[str, ...] = (),
) -> Iterator[Command]:
    """Yield the commands that open the session of a call.

    `options` are what the call says about itself: `roles` (or `role`), `tags` (or `tag`) with
    commas between them, and `disclosed` configure the session, all others become its attributes,
    which subscribers get. `roles` are those of the dialect; if there are none, those of `defaults`.
    Raises `ProtocolError`.
    """
    given = dict(options)
    named = _names(given.pop("roles", None) or given.pop("role", None))
    tags = _names(given.pop("tags", None) or given.pop("tag", None))
    disclosed = given.pop("disclosed", defaults.disclosed)
    if call_id:
        given["call_id"] = call_id
    if audio.channels == 1:
        roles = roles or (defaults.role,)
    fields: dict[str, Any] = {
        "audio": {
            "encoding": audio.encoding,
            "sample_rate": audio.sample_rate,
            "channels": audio.channels,
            "roles": named or roles,
        },
        "stream_id": stream_id(call_id) if call_id else None,
        "tags": tags,
        "consent": {"disclosed": disclosed},
        "results": False,
    }
    try:
        yield Start(SessionConfig.model_validate(fields), renamed=True)
    except ValidationError as error:
        raise protocol_error(error) from None
    if given:
        yield noted(given)


def noted(attrs: dict[str, object]) -> Annotate:
    """Return the command for attributes of the call. Raises `ProtocolError` (not fatal)."""
    try:
        return Annotate(SessionAnnotate(type="session.annotate", attrs=attrs))
    except ValidationError as error:
        raise protocol_error(error) from None


def _names(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else ()


def stream_id(call_id: str) -> str:
    """Return the id of a call as a stream id; two ids never become the same one."""
    if re.fullmatch(NAME, call_id):
        return call_id
    digest = blake2b(call_id.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.:-]', '-', call_id)[:40]}-{digest}"


def options_of(query: Mapping[str, Iterable[str]]) -> dict[str, object]:
    """Return the options in a URL's query: the last value of each, all values of `tag`."""
    options: dict[str, object] = {}
    for name, values in query.items():
        every = list(values)
        if every:
            options[name] = every if name in ("tag", "tags") and len(every) > 1 else every[-1]
    return options


def keys_pressed(keys: object, started: bool = True) -> Annotate:
    """Return the command for keys pressed on the telephone.

    Raises `ProtocolError` (not fatal) for other texts, and for keys of a call that has not
    `started`.
    """
    if not started:
        raise ProtocolError("invalid_message", "keys came before the call started", fatal=False)
    text = str(keys).upper() if isinstance(keys, str | int) else ""
    if re.fullmatch(KEYS, text) is None:
        raise ProtocolError(
            "invalid_message", "a message about pressed keys has none of 0-9 A-D * #", fatal=False
        )
    return Annotate(SessionAnnotate(type="session.annotate", dtmf=text))


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text message, None if it is something else.

    Raises `ProtocolError` (not fatal) for a text that is too long to be looked at.
    """
    if len(text) > MAX_TEXT:
        raise ProtocolError(
            "invalid_message", f"a text message has at most {MAX_TEXT} characters", fatal=False
        )
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None
