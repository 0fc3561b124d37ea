"""The dialect of Asterisk's WebSocket channel (chan_websocket): docs/telephony/asterisk.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stream.delivery.transport import Message
from stream.ingest.arrival import ArrivalClock
from stream.ingest.calls import (
    CallDefaults,
    json_object,
    keys_pressed,
    options_of,
    start,
)
from stream.ingest.dialect import Command, Request
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import EncodedEvent
from stream.protocol.wire.codes import CloseReason
from stream.types import AudioFormat

FORMATS = {
    "ulaw": AudioFormat("mulaw", 8_000),
    "alaw": AudioFormat("alaw", 8_000),
    "slin": AudioFormat("linear16", 8_000),
} | {
    f"slin{khz}": AudioFormat("linear16", rate)
    for khz, rate in (
        (12, 12_000),
        (16, 16_000),
        (24, 24_000),
        (32, 32_000),
        (44, 44_100),
        (48, 48_000),
        (96, 96_000),
        (192, 192_000),
    )
}
"""Audio format by Asterisk's name of it."""


class Asterisk:
    """A call from Asterisk's WebSocket channel, whose query holds what the dialplan says of it.

    https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/. Nothing is sent: Asterisk
    reports every message that is not one of its commands, and plays binary ones to the caller.
    """

    name = "asterisk"
    resumes = False
    parting_s = 0.0
    rest_s = 0.06
    answers = False

    def __init__(
        self,
        request: Request,
        defaults: CallDefaults,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query = request.query
        self._defaults = defaults
        self._clock = clock
        self._audio: AudioFormat | None = None
        self._arrival: ArrivalClock

    def connected(self) -> Iterable[Command]:
        """Return nothing: the format comes in the first message."""
        return ()

    def receive(self, message: Message) -> Iterator[Command]:
        """Yield the commands of a control message (TEXT), or the audio of a BINARY one."""
        if isinstance(message, str):
            event, fields = _parse(message)
            if event == "MEDIA_START":
                yield from self._start(fields)
            elif event == "DTMF_END":
                yield keys_pressed(fields.get("digit"), self._audio is not None)
            return
        if self._audio is None:
            raise ProtocolError("invalid_message", "audio came before MEDIA_START", fatal=False)
        if message:
            yield from self._arrival.audio(message)

    def _start(self, fields: dict[str, Any]) -> Iterator[Command]:
        if self._audio is not None:
            raise ProtocolError("config_invalid", "the call has started already", fatal=False)
        name, call_id = fields.get("format"), fields.get("channel_id")
        audio = FORMATS.get(name) if isinstance(name, str) else None
        if audio is None:
            raise ProtocolError(
                "unsupported_encoding",
                f"format {str(name)[:32]!r} is not supported; dial with c(ulaw), c(alaw), c(slin) "
                "or c(slin16)",
                param="format",
            )
        # Not `connection_id`: it names the client in websocket_client.conf, and all calls share it.
        identity = call_id if isinstance(call_id, str) and call_id else None
        commands = list(start(audio, identity, options_of(self._query), self._defaults))
        self._audio, self._arrival = audio, ArrivalClock(audio, self._clock)
        self._arrival.begin()
        return iter(commands)

    def tick(self) -> Iterable[Command]:
        """Return the silence since the last message; Asterisk sends nothing in silence."""
        return () if self._audio is None else self._arrival.tick()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return nothing, whatever the event."""
        return ()

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`, which Asterisk logs."""
        return close_code(reason)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and fields of a control message: JSON, or `NAME key:value …` (plain text)."""
    message = json_object(text)
    if message is not None:
        return str(message.get("event")), message
    name, *words = text.split()[:64] or [""]
    return name, dict(word.split(":", 1) for word in words if ":" in word)
