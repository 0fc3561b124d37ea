"""The dialect of Genesys AudioHook v2: docs/telephony/audiohook.md."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

import orjson
from pydantic import ValidationError

from stream.config import TelephonyConfig
from stream.delivery.transport import Message
from stream.ingest.audiohook_messages import (
    NULL,
    RATE,
    Close,
    Custom,
    Envelope,
    Failure,
    Hole,
    Media,
    Open,
    Update,
    choose,
    envelope,
    read,
)
from stream.ingest.dialect import (
    Annotate,
    Audio,
    Command,
    End,
    Pause,
    Probe,
    Reply,
    Request,
    Skip,
    Start,
    Unpause,
)
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import SessionAnnotate, SessionConfig
from stream.protocol.wire.codes import CloseReason

ROLES = {"external": "customer", "internal": "agent"}
ENCODINGS = {"PCMU": "mulaw", "L16": "linear16"}

ORDERLY = ("draining", "session_expired", "completed")
"""Error codes of sessions that end as planned: `disconnect` with the reason completed."""

DENIED = ("unauthorized", "forbidden")


class State(Enum):
    """State of the session, as AudioHook has it."""

    CONNECTED = auto()
    """`open` has not come yet."""
    OPEN = auto()
    """Audio comes."""
    SILENT = auto()
    """No audio is wanted: a connection probe."""
    DISCONNECTING = auto()
    """`disconnect` was sent; the client sends `close`."""
    CLOSED = auto()
    """`closed` was sent; the client closes the connection."""


class AudioHook:
    """One AudioHook session. Nothing of the analysis is sent to Genesys."""

    name = "audiohook"
    resumes = False
    parting_s = 3.0
    rest_s = 0.2
    answers = False

    def __init__(self, request: Request, config: TelephonyConfig) -> None:
        self._config = config
        self._id = request.headers.get("audiohook-session-id", "")
        self._organization = request.headers.get("audiohook-organization-id", "")
        self._state = State.CONNECTED
        self._sent, self._received = 0, 0
        """Numbers of the last message in each direction."""

    def connected(self) -> Iterable[Command]:
        """Return nothing: `open` starts the session."""
        return ()

    def receive(self, message: Message) -> Iterable[Command]:
        """Return the commands of a message. Replies come first, as their numbers are fixed."""
        if isinstance(message, bytes):
            return self._audio(message)
        received = envelope(message)
        self._check(received)
        return self._control(received)

    def _audio(self, data: bytes) -> Iterable[Command]:
        if self._state is State.CONNECTED:
            raise ProtocolError("invalid_message", "audio came before opened was sent")
        # A connection probe sends a frame of 0 bytes.
        return (Audio(data),) if data and self._state is State.OPEN else ()

    def _check(self, message: Envelope) -> None:
        """Check the numbers and the session of a message. Raises `ProtocolError`."""
        if self._state in (State.DISCONNECTING, State.CLOSED):
            # Messages that crossed the end may be lost, and with them their numbers.
            self._received = message.seq
            return
        if message.seq != self._received + 1:
            expected = self._received + 1
            raise ProtocolError(
                "invalid_message", f"seq is {message.seq} and should be {expected}", param="seq"
            )
        if message.serverseq > self._sent:
            raise ProtocolError(
                "invalid_message",
                f"serverseq is {message.serverseq}, but the last message sent is {self._sent}",
                param="serverseq",
            )
        if self._id and message.id.lower() != self._id.lower():
            raise ProtocolError(
                "invalid_message", "id is not the Audiohook-Session-Id of the request", param="id"
            )
        self._id = message.id
        self._received = message.seq

    def _control(self, message: Envelope) -> Iterable[Command]:
        fields = message.parameters
        match message.type:
            case "ping":
                return (self._reply("pong"),)
            case "close":
                return self._close(read(Close, fields, "close"))
            case "open":
                return self._open(read(Open, fields, "open", fatal=True))
            case "paused":
                commands: tuple[Command, ...] = (Pause(),)
            case "resumed":
                commands = (self._skip(read(Hole, fields, "resumed")), Unpause())
            case "discarded":
                hole = read(Hole, fields, "discarded")
                mark = f"discarded {hole.discarded:g} s"
                commands = (self._skip(hole), _note(mark=mark))
            case "update":
                language = read(Update, fields, "update").language
                commands = (self._reply("updated"), _note(language=language))
            case "error":
                failure = read(Failure, fields, "error")
                text = f"{failure.code} {failure.message}"[:128]
                commands = (_note(audiohook_error=text),)
            case _:
                raise ProtocolError(
                    "unknown_message", f"unknown message type {message.type!r}", fatal=False
                )
        if self._state is State.OPEN:
            return commands
        # Without a session only replies make sense.
        return [command for command in commands if isinstance(command, Reply)]

    def _open(self, message: Open) -> Iterable[Command]:
        if self._state is not State.CONNECTED:
            raise ProtocolError("invalid_message", "open came twice")
        if self._organization and message.organization_id.lower() != self._organization.lower():
            raise ProtocolError(
                "forbidden",
                "organizationId is not the Audiohook-Organization-Id of the request",
                param="organizationId",
            )
        entry = choose(message.media, self._config.audiohook_channels)
        if entry is None and (message.media or not message.is_probe):
            raise ProtocolError(
                "unsupported_encoding",
                "no media offered fits: PCMU or L16 at 8000 Hz with external, internal or both",
                param="media",
            )
        opened: dict[str, Any] = {"media": [] if entry is None else [entry], "startPaused": False}
        if message.supported_languages:
            # The analysis depends on no language, so the one of the conversation is supported.
            opened["supportedLanguages"] = [message.language] if message.language else []
        if message.is_probe or entry is None:
            self._state = State.SILENT
            return (self._reply("opened", opened), Probe())
        start = Start(self._session(message, Media.model_validate(entry)))
        self._state = State.OPEN
        # Sent before the session exists: the client gives up after 5 s.
        return (self._reply("opened", opened), start)

    def _session(self, message: Open, media: Media) -> SessionConfig:
        """Return the session of a conversation. Raises `ProtocolError`."""
        custom, participant = message.custom_config or Custom(), message.participant
        caller = {"ani": participant.ani, "ani_name": participant.ani_name}
        attrs = {
            "organization_id": message.organization_id,
            "conversation_id": message.conversation_id,
            "participant_id": participant.id,
            "dnis": participant.dnis,
            "language": message.language,
            **(caller if self._config.audiohook_caller_id else {}),
        }
        disclosed = self._config.disclosed if custom.disclosed is None else custom.disclosed
        try:
            return SessionConfig.model_validate(
                {
                    "stream_id": self._id,
                    "audio": {
                        "encoding": ENCODINGS[media.format],
                        "sample_rate": RATE,
                        "channels": len(media.channels),
                        "roles": [ROLES[name] for name in media.channels],
                    },
                    "tags": custom.tags,
                    "attrs": {**custom.attrs, **{k: v for k, v in attrs.items() if v}},
                    "consent": {"disclosed": disclosed},
                    "results": False,
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            path = "customConfig." + ".".join(map(str, first["loc"]))
            raise ProtocolError("config_invalid", f"{path}: {first['msg']}", param=path) from None

    def _close(self, message: Close) -> Iterable[Command]:
        if self._state is State.CLOSED:
            return ()
        was, self._state = self._state, State.CLOSED
        # Sent before the tail is scored: the client gives up after 10 s.
        closed = self._reply("closed")
        if was is State.OPEN and message.reason != "end":
            return (closed, _note(audiohook_close=message.reason), End())
        return (closed, End())

    def _skip(self, hole: Hole) -> Skip:
        return Skip(round(hole.discarded * RATE))

    def _reply(self, kind: str, parameters: dict[str, Any] | None = None) -> Reply:
        return Reply(self._message(kind, parameters or {}))

    def _message(self, kind: str, parameters: dict[str, Any]) -> str:
        self._sent += 1
        message = {
            "version": "2",
            "id": self._id or NULL,
            "type": kind,
            "seq": self._sent,
            "clientseq": self._received,
            "parameters": parameters,
        }
        return orjson.dumps(message).decode()

    def tick(self) -> Iterable[Command]:
        """Return nothing: the client sends pings while there is no audio."""
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return `disconnect` for a fatal error; Genesys gets no other event."""
        if event.type != "error" or self._state in (State.DISCONNECTING, State.CLOSED):
            return ()
        error = event.body
        if not error["fatal"]:
            return ()
        self._state = State.DISCONNECTING
        code = error["code"]
        reason = "completed" if code in ORDERLY else "error"
        if code in DENIED:
            reason = "unauthorized"
        return (self._message("disconnect", {"reason": reason, "info": error["message"]}),)

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`."""
        return close_code(reason)


def _note(mark: str | None = None, **attrs: str) -> Annotate:
    return Annotate(SessionAnnotate(type="session.annotate", attrs=attrs, mark=mark))
