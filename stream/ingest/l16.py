"""Linear PCM after a first message that describes the call: docs/telephony/l16.md.

FreeSWITCH (mod_audio_fork, mod_audio_stream), jambonz, Vonage and Infobip send calls like this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stream.delivery.transport import Message
from stream.ingest.aliases import pressed_keys
from stream.ingest.calls import (
    CallDefaults,
    json_object,
    keys_pressed,
    noted,
    options_of,
    start,
)
from stream.ingest.dialect import Audio, Command, Request
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import EncodedEvent
from stream.protocol.wire.codes import CloseReason
from stream.types import MAX_CHANNELS, MAX_RATE, MIN_RATE, AudioFormat, Encoding

ENCODINGS: Mapping[str, Encoding] = {
    "linear16": "linear16",
    "l16": "linear16",
    "mulaw": "mulaw",
    "pcmu": "mulaw",
    "alaw": "alaw",
    "pcma": "alaw",
}
IDS = ("stream_id", "callSid", "call_sid", "call_uuid", "uuid", "call_id", "callId")
"""Names under which the identity of a call comes, in this order."""

FORMAT = ("sample_rate", "sampleRate", "rate", "channels", "mixType", "mix_type", "encoding")

PRIVATE = frozenset(
    {"from", "to", "callerName", "caller_name", "callerId", "originatingSipIp", "sipCallId"}
    | {"originatingSipTrunkName", "publicIp", "fsSipAddress", "apiBaseUrl", "b3", "traceId"}
)
"""Names in jambonz' description of a call that are telephone numbers, or mean nothing outside."""

LONGEST = 1_024
"""Characters of a description that is not JSON, kept as the attribute `metadata`."""


class L16:
    """A call of 16-bit PCM; the URL's query or the first text message describes it.

    The query takes precedence. A call that begins with audio is described by the query alone; by
    default it is 8 kHz, mono. Nothing is sent.
    """

    name = "l16"
    resumes = False
    answers = False
    parting_s = 0.0
    rest_s = 0.2

    def __init__(self, request: Request, defaults: CallDefaults) -> None:
        self._options = options_of(request.query)
        self._defaults = defaults
        self._started = False

    def connected(self) -> Iterable[Command]:
        """Return nothing: the first message may add to the query."""
        return ()

    def receive(self, message: Message) -> Iterator[Command]:
        """Yield the commands of a description, a note or keys (TEXT), or of audio (BINARY)."""
        if isinstance(message, str):
            yield from self._text(message)
            return
        if not self._started:
            yield from self._start({})
        if message:
            yield Audio(message)

    def _text(self, text: str) -> Iterator[Command]:
        fields = json_object(text)
        if fields is not None and (keys := pressed_keys(fields)) is not None:
            yield keys_pressed(keys, self._started)
        elif not self._started:
            if fields is None:
                fields = {"metadata": text[:LONGEST]} if text.strip() else {}
            yield from self._start(_flat(fields))
        elif fields and "event" not in fields and "type" not in fields:
            yield noted(fields)

    def _start(self, described: dict[str, Any]) -> Iterator[Command]:
        if described.get("event") == "MEDIA_START":
            raise ProtocolError(
                "config_invalid", "this is Asterisk's WebSocket channel: use /v1/asterisk"
            )
        described.pop("event", None)
        audio = _format({**_content_type(described), **described, **self._options})
        mixed = _mix(described) == "mixed"
        options = {**described, **self._options}
        names = [name for name in IDS if isinstance(options.get(name), str) and options[name]]
        identity = str(options[names[0]]) if names else None
        for name in (*FORMAT, *names[:1]):
            options.pop(name, None)
        roles = ("speaker",) if mixed and audio.channels == 1 else ()
        commands = list(start(audio, identity, options, self._defaults, roles))
        self._started = True
        yield from commands

    def tick(self) -> Iterable[Command]:
        """Return nothing: these systems send audio all the time."""
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return nothing: each of these systems has its own commands, and none is needed."""
        return ()

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`."""
        return close_code(reason)


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a description without private fields, and with its `metadata` at the top level."""
    if "callSid" not in fields:
        return fields
    flat = {name: value for name, value in fields.items() if name not in PRIVATE}
    metadata = flat.pop("metadata", None)
    return {**flat, **metadata} if isinstance(metadata, dict) else flat


def _content_type(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the format in the content type of Vonage and Infobip: `audio/l16;rate=16000`."""
    text = fields.pop("content-type", None)
    if not isinstance(text, str):
        return {}
    kind, *parameters = (part.strip() for part in text.lower().split(";"))
    encoding = kind.removeprefix("audio/")
    rate = next((p[5:] for p in parameters if p.startswith("rate=")), None)
    return {"encoding": encoding} | ({"sample_rate": rate} if rate is not None else {})


def _mix(fields: Mapping[str, object]) -> str:
    return str(fields.get("mixType", fields.get("mix_type", ""))).lower()


def _format(fields: Mapping[str, object]) -> AudioFormat:
    """Return the format of a call. Raises `ProtocolError`."""
    encoding = ENCODINGS.get(str(fields.get("encoding", "l16")).lower())
    if encoding is None:
        raise ProtocolError(
            "unsupported_encoding",
            f"encoding: only {', '.join(ENCODINGS)} are supported",
            param="encoding",
        )
    given = next((fields[n] for n in ("sample_rate", "sampleRate", "rate") if n in fields), 8_000)
    rate = _number("sample_rate", given, MIN_RATE, MAX_RATE)
    stereo = 2 if _mix(fields) == "stereo" else 1
    channels = _number("channels", fields.get("channels", stereo), 1, MAX_CHANNELS)
    return AudioFormat(encoding, rate, channels)


def _number(name: str, value: object, least: int, most: int) -> int:
    text = str(value).lower()
    if name == "sample_rate" and (thousands := re.fullmatch(r"(\d{1,3})k", text, re.ASCII)):
        text = thousands[1] + "000"
    if re.fullmatch(r"\d{1,6}", text, re.ASCII) is None or not least <= int(text) <= most:
        raise ProtocolError(
            "config_invalid", f"{name}: must be a number from {least} to {most}", param=name
        )
    return int(text)
