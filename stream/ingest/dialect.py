"""The seam for producers' protocols: messages in become commands, events become messages out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stream.delivery.transport import Message
from stream.protocol.events import EncodedEvent
from stream.protocol.messages import SessionAnnotate, SessionConfig
from stream.protocol.parsing import Query
from stream.protocol.wire.codes import CloseReason, ErrorCode


@dataclass(frozen=True, slots=True)
class Request:
    """Facts about a connection before its first message; over TCP only `peer` is known."""

    path: str = ""
    query: Query = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Open a session; `takeover` ends another one that has its stream id.

    With `renamed` the session gets an id of its own if another live one has its stream id.
    `event_type` is the event that announces it: session.created or session.updated.
    """

    config: SessionConfig
    takeover: bool = False
    event_type: Literal["session.created", "session.updated"] = "session.created"
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Return to a session after a broken connection; `last_seq` is the last event received."""

    token: str
    last_seq: int = -1


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio in the format of the session, of any length."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Silence:
    """Audio that the producer did not send because nothing was said: samples at its rate."""

    samples: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Audio that was lost: samples at the producer's rate. The utterance before the hole ends."""

    samples: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Make windows due for all speech received so far."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop the analysis; audio only advances the clock."""


@dataclass(frozen=True, slots=True)
class Unpause:
    """Continue the analysis; `skipped_ms` of audio were not sent."""

    skipped_ms: int = 0


@dataclass(frozen=True, slots=True)
class Annotate:
    """Keep attributes of the stream, and emit them."""

    note: SessionAnnotate


@dataclass(frozen=True, slots=True)
class Reply:
    """Send a message of the dialect's own, such as a pong."""

    message: Message


@dataclass(frozen=True, slots=True)
class Offer:
    """Send the default settings: the producer has not configured its session yet."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Serve a connection that only tests the way to this server; no session follows."""


@dataclass(frozen=True, slots=True)
class End:
    """End the session; its tail is scored before `session.closed`, but after an objection."""

    reason: ErrorCode = "completed"


Command = (
    Start
    | Resume
    | Audio
    | Silence
    | Skip
    | Flush
    | Pause
    | Unpause
    | Annotate
    | Reply
    | Offer
    | Probe
    | End
)


class Dialect(Protocol):
    """One connection's protocol. Uses no sockets and no event loop, so a list of messages tests it.

    The driver, `Producer`, runs the commands in order, counts mistakes, and applies the limits.
    """

    name: str
    """Name in metrics and snapshots (`adapter`)."""
    resumes: bool
    """True if a producer may return to its session after the connection broke."""
    parting_s: float
    """Seconds in which the peer may close the connection itself, once the end was announced to it.

    Messages that come meanwhile still get their replies. 0: this server closes at once.
    """
    rest_s: float
    """Seconds for which messages may wait unread while the audio in them decides nothing.

    0 for a peer that waits for answers; little where the time of arrival counts.
    """
    answers: bool
    """True if mistakes are reported to the producer; otherwise they are logged."""

    def connected(self) -> Iterable[Command]:
        """Return the commands that the request itself implies. Raises `ProtocolError`."""
        ...

    def receive(self, message: Message) -> Iterable[Command]:
        """Return the commands of a message. Raises `ProtocolError`."""
        ...

    def tick(self) -> Iterable[Command]:
        """Return the commands that are due by time alone; called ten times a second in a session.

        It is also called once before a connection is closed that started no session in time. Raises
        `ProtocolError`.
        """
        ...

    def send(self, event: EncodedEvent) -> Iterable[Message]:
        """Return the messages for an event, none if the producer does not need it.

        Errors and offered defaults come as events too, before there is a session.
        """
        ...

    def close_code(self, reason: CloseReason) -> int:
        """Return the close code for an error code or the reason of a session's end."""
        ...
