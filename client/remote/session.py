"""State of a producer session, as the events of the server tell it. No clocks, no sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from client.remote.audio_format import AudioFormat
from client.remote.errors import Refused
from client.remote.events import Event
from client.remote.send_buffer import SendBuffer
from stream.protocol.wire.notices import ErrorBody
from stream.protocol.wire.session import SessionClosed, SessionCreated, SessionResumed

MESSAGE_S = 0.5
"""Most audio in one message, in seconds."""
UNKNOWN, EXPIRED = 4404, 4410
"""Close codes after which a new session is opened: the old one is unknown, or was too long."""


class Session:
    """Session across its connections: its token, its newest event, and the audio that it has.

    `acknowledged` is called when `buffer` has new space or is to be sent again.
    """

    def __init__(
        self, audio: AudioFormat, buffer: SendBuffer, acknowledged: Callable[[], None]
    ) -> None:
        self._audio = audio
        self._buffer = buffer
        self._acknowledged = acknowledged
        self._token: str | None = None
        self._last_seq = -1
        self._restart_reason: str | None = None
        self.message_bytes = max(1, int(MESSAGE_S * audio.sample_rate)) * audio.bytes_per_frame
        """Most bytes of audio in one message."""
        self.processed_ms = 0
        """Audio that the server has analysed."""
        self.ready = False
        """True once this connection may send audio."""
        self.ending = False
        """True if no audio follows what is in the buffer."""
        self.close_sent = False
        """True once `session.close` was sent."""
        self.fatal_error: ErrorBody | None = None
        """The error that ends this connection."""
        self.closed: SessionClosed | None = None
        """The last event, if no new session is to follow."""

    def connect(self, query: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Prepare another connection; return its query, given that of a new session."""
        self.fatal_error = None
        self.ready = False
        if self._token is None:
            self._last_seq = -1
            self._buffer.restart()
            return list(query)
        return [("resume", self._token), ("last_seq", str(self._last_seq))]

    def restart(self, refused: Refused) -> None:
        """Prepare a new session if the old one expired or is unknown, else raise `refused`."""
        if refused.code == EXPIRED and self._restart_reason is not None:
            return  # `session.closed` has prepared it
        if refused.code not in (UNKNOWN, EXPIRED) or self._token is None or self.close_sent:
            raise refused
        self._token, self._restart_reason = None, refused.message

    def handle(self, event: Event) -> list[Event]:
        """Take an event of the server; return the events for the reader, none for a repetition.

        Raises `Refused`, and `reader.MALFORMED` if fields are missing.
        """
        if event["type"] == "error" and event["fatal"]:
            self.fatal_error = event
        seq = event.get("seq")
        if event["type"] == "session.resumed":
            if self.ready:
                return []  # the response to an earlier resume, replayed
            self._resumed(event)
            # Its `seq` counts only if it is the next one: otherwise missed events are still to be
            # replayed, and their numbers are smaller.
            self._last_seq += seq == self._last_seq + 1
        elif isinstance(seq, int):
            if seq <= self._last_seq:
                return []
            self._last_seq = seq
        restarted: list[Event] = []
        match event["type"]:
            case "session.created":
                if self._restart_reason is not None:
                    restarted = [{"type": "client.restarted", "why": self._restart_reason}]
                    self._restart_reason = None
                self._created(event)
            case "audio.ack":
                self.processed_ms = event.get("processed_ms", 0)
                self._ack(event["received_samples"])
            case "session.closed":
                self._close(event)
        return [*restarted, event]

    def _created(self, event: SessionCreated) -> None:
        self._token = event.get("resume_token")
        limits = event.get("limits", {})
        limit = int(limits.get("max_frame_ms", 10_000)) * self._audio.bytes_per_second // 1000
        limit = min(limit, int(limits.get("max_message_bytes", limit)))
        self.message_bytes = min(self.message_bytes, max(1, limit))
        self.ready = True

    def _ack(self, samples: int) -> None:
        self._buffer.ack(samples)
        self._acknowledged()

    def _close(self, event: SessionClosed) -> None:
        """End the session; after a fatal error, prepare a new one unless all audio was sent."""
        if self.fatal_error is not None:
            self._ack(event["totals"]["audio_ms"] * self._audio.sample_rate // 1000)
            if not (self.ending and self._buffer.drained):
                self._token, self._restart_reason = None, self.fatal_error["message"]
                return
        self.closed = event

    def _resumed(self, event: SessionResumed) -> None:
        self._token = event.get("resume_token", self._token)
        try:
            self._buffer.rewind(event["received_samples"])
        except ValueError as error:
            raise Refused(4400, "invalid_message", str(error)) from None
        self._acknowledged()
        self.ready = True
