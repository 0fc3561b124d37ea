"""The dialect `emotide.v1`: docs/protocol.md."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stream.delivery.transport import Message
from stream.ingest.aliases import translate
from stream.ingest.dialect import (
    Annotate,
    Audio,
    Command,
    End,
    Flush,
    Offer,
    Pause,
    Request,
    Resume,
    Start,
    Unpause,
)
from stream.protocol.errors import ProtocolError, close_code
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import (
    InputFlush,
    InputPause,
    InputResume,
    KeepAlive,
    SessionAnnotate,
    SessionClose,
    SessionUpdate,
)
from stream.protocol.parsing import overlay, parse_flag, parse_producer, parse_query
from stream.protocol.wire.codes import CloseReason


class Emotide:
    """A producer that speaks `emotide.v1`, or the control words of `aliases`."""

    name = "native"
    resumes = True
    answers = True
    parting_s = 0.0
    rest_s = 0.2

    def __init__(self, request: Request) -> None:
        self._query = request.query
        self._configured = False

    def connected(self) -> Iterable[Command]:
        """Start or resume the session that the URL describes, else offer the defaults."""
        query = self._query
        config = parse_query(query)
        if "resume" in query:
            self._configured = True
            last = query.get("last_seq", ["-1"])[-1]
            if re.fullmatch(r"-?\d{1,15}", last, re.ASCII) is None:
                raise ProtocolError(
                    "config_invalid", "last_seq: must be the last seq received", param="last_seq"
                )
            return (Resume(query["resume"][-1], int(last)),)
        if config is None:
            return (Offer(),)
        self._configured = True
        return (Start(config, parse_flag(query, "takeover")),)

    def receive(self, message: Message) -> Iterable[Command]:
        """Return the commands of a TEXT message, or the audio of a BINARY one."""
        if isinstance(message, str):
            return self._control(message)
        if not message:
            return ()  # some clients send one as a sign of life, or at the end of a file
        if self._configured:
            return (Audio(message),)
        raise ProtocolError(
            "config_invalid",
            "audio came before its format: send session.update first, or put "
            "sample_rate (and encoding, channels) into the URL",
            param="session.audio.sample_rate",
        )

    def _control(self, text: str) -> Iterable[Command]:
        message = parse_producer(text, translate)
        if not self._configured:
            return self._configure(message)
        match message:
            case InputFlush():
                return (Flush(),)
            case InputPause():
                return (Pause(),)
            case InputResume():
                return (Unpause(message.skipped_ms),)
            case SessionAnnotate(objected=True):
                return (End("objected"),)
            case SessionAnnotate():
                return (Annotate(message),)
            case SessionClose():
                return (End(),)
            case SessionUpdate():
                raise ProtocolError(
                    "config_invalid",
                    "session.update can only come first; close and start a new session",
                    param="type",
                    fatal=False,
                )
            case KeepAlive():
                return ()

    def _configure(self, message: object) -> Iterable[Command]:
        """Start the session that `session.update` describes; it builds on the URL's query."""
        if isinstance(message, SessionClose):
            raise ProtocolError("completed", "closed before a session started")
        if not isinstance(message, SessionUpdate):
            return ()
        config = overlay(self._query, message.session)
        self._configured = True
        return (Start(config, parse_flag(self._query, "takeover"), "session.updated"),)

    def tick(self) -> Iterable[Command]:
        """Return nothing: the producer says what it leaves out."""
        return ()

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return the event as JSON."""
        return (event.data.decode(),)

    def close_code(self, reason: CloseReason) -> int:
        """Return the code of `CLOSE_CODES`: 1000 for a session that ended as asked."""
        return close_code(reason)
