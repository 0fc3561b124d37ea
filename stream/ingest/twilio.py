"""The dialect of Twilio Media Streams and of those who took it over: docs/telephony/twilio.md."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stream.delivery.transport import Message
from stream.ingest.calls import CallDefaults, json_object, keys_pressed, options_of, start
from stream.ingest.dialect import Command, End, Request
from stream.ingest.tracks import Tracks
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import EncodedEvent
from stream.protocol.wire.codes import CloseReason
from stream.types import MAX_RATE, MIN_RATE, AudioFormat, Encoding

ENCODINGS: Mapping[str, Encoding] = {
    "xmulaw": "mulaw",
    "mulaw": "mulaw",
    "ulaw": "mulaw",
    "pcmu": "mulaw",
    "xalaw": "alaw",
    "alaw": "alaw",
    "pcma": "alaw",
    "xl16": "linear16",
    "l16": "linear16",
    "pcm16": "linear16",
}
"""Encoding by its name in `mediaFormat`, without `audio/`, hyphens and case."""

INBOUND, OUTBOUND = "inbound", "outbound"
ROLES = {INBOUND: "customer", OUTBOUND: "agent"}
"""Role of each track: inbound is what the caller says."""


class Twilio:
    """A call from Twilio Media Streams: JSON with audio in base64.

    https://www.twilio.com/docs/voice/media-streams/websocket-messages. Telnyx writes names in snake
    case, Voximplant has numbers instead of texts and no track; both are understood. Nothing is
    sent.
    """

    name = "twilio"
    resumes = False
    answers = False
    parting_s = 0.0
    rest_s = 0.2

    def __init__(self, request: Request, defaults: CallDefaults) -> None:
        self._query = request.query
        self._defaults = defaults
        self._tracks: Tracks | None = None

    def connected(self) -> Iterable[Command]:
        """Return nothing: the call is described in its second message."""
        return ()

    def receive(self, message: Message) -> Iterator[Command]:
        """Yield the commands of a message; those of unknown events are none."""
        if not isinstance(message, str):
            raise ProtocolError("invalid_message", "binary messages are not Twilio's", fatal=False)
        fields = json_object(message)
        if fields is None:
            raise ProtocolError("invalid_message", "not a JSON object", fatal=False)
        match fields.get("event"):
            case "media":
                yield from self._media(_object(fields, "media"))
            case "start":
                yield from self._start(fields, _object(fields, "start"))
            case "dtmf":
                digit = _get(_object(fields, "dtmf"), "digit")
                yield keys_pressed(digit, self._tracks is not None)
            case "stop":
                if self._tracks is not None:
                    yield from self._tracks.finish()
                yield End()

    def _start(self, fields: dict[str, Any], call: dict[str, Any]) -> Iterator[Command]:
        if self._tracks is not None:
            raise ProtocolError("config_invalid", "the call has started already", fatal=False)
        names = _tracks(_get(call, "tracks"))
        audio = _format(_object(call, "media_format"), len(names))
        identity = next(
            (
                str(found)
                for source, name in (
                    (call, "call_sid"),
                    (call, "call_control_id"),
                    (call, "stream_sid"),
                    (fields, "stream_sid"),
                    (fields, "stream_id"),
                    (call, "tag"),
                )
                if isinstance(found := _get(source, name), str | int) and found != ""
            ),
            None,
        )
        options = options_of(self._query) | _object(call, "custom_parameters")
        roles = tuple(ROLES[name] for name in names)
        if names == (INBOUND,):
            roles = (self._defaults.role,)
        commands = list(start(audio, identity, options, self._defaults, roles))
        self._tracks = Tracks(audio, names)
        yield from commands

    def _media(self, media: dict[str, Any]) -> Iterator[Command]:
        if self._tracks is None:
            raise ProtocolError("invalid_message", "media came before start", fatal=False)
        name = str(_get(media, "track") or INBOUND).removesuffix("_track")
        if name not in self._tracks:
            raise ProtocolError(
                "invalid_message", "media of a track that start did not name", fatal=False
            )
        try:
            data = base64.b64decode(_get(media, "payload"), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ProtocolError(
                "invalid_audio_frame", "media.payload is not base64", fatal=False
            ) from None
        yield from self._tracks.add(name, _milliseconds(_get(media, "timestamp")), data)

    def tick(self) -> Iterable[Command]:
        """Return nothing: the timestamps are the clock."""
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return nothing: messages of ours would be played, or are errors."""
        return ()

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`."""
        return close_code(reason)


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def _get(fields: dict[str, Any], name: str) -> Any:
    """Return a field by its name in snake case, however the sender writes it."""
    if name in fields:
        return fields[name]
    wanted = _key(name)
    return next((value for key, value in fields.items() if _key(key) == wanted), None)


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    found = _get(fields, name)
    return found if isinstance(found, dict) else {}


def _tracks(named: object) -> tuple[str, ...]:
    """Return the tracks of a call in the order of its channels."""
    found = {str(name).removesuffix("_track") for name in named} if isinstance(named, list) else ()
    return tuple(name for name in ROLES if name in found) or (INBOUND,)


def _format(media: dict[str, Any], channels: int) -> AudioFormat:
    """Return the format of a call. Raises `ProtocolError`."""
    name = str(_get(media, "encoding") or "audio/x-mulaw")
    encoding = ENCODINGS.get(name.lower().removeprefix("audio/").replace("-", ""))
    rate = _milliseconds(_get(media, "sample_rate") or 8_000)
    if encoding is None or rate is None or not MIN_RATE <= rate <= MAX_RATE:
        raise ProtocolError(
            "unsupported_encoding",
            f"mediaFormat {name[:32]!r} is not supported; use mu-law, A-law or 16-bit PCM of 8 kHz "
            "or more",
            param="mediaFormat",
        )
    return AudioFormat(encoding, int(rate), channels)


def _milliseconds(value: object) -> float | None:
    """Return a number that may be written as text; None if it is none, or not plausible."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None
