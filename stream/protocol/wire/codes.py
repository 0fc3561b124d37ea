"""Codes and reasons. These enumerations are open: later versions may add members.

A code of HTTP only is valid for a `ProtocolError`, but not in an event.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from stream.fields import Stated
from stream.terms import AudioFault

ClosingCode = Literal[
    "completed",
    "draining",
    "message_too_large",
    "internal_error",
    "overloaded",
    "invalid_message",
    "config_invalid",
    "unauthorized",
    "forbidden",
    "agent_channel_forbidden",
    "disclosure_required",
    "objected",
    "unknown_stream",
    "idle_timeout",
    "start_timeout",
    "slow_consumer",
    "stream_conflict",
    "session_expired",
    "unsupported_encoding",
    "rate_limited",
    "quota_exceeded",
]
"""Error code that has a close code of its own."""

FileCode = Literal[AudioFault, "file_too_large", "disk_full"]
HttpCode = Literal["cancelled"]
EventCode = Literal[ClosingCode, "unknown_message", "invalid_audio_frame", FileCode]
SessionEnd = Literal["client_closed", "connection_lost", "taken_over"]

ErrorCode = Annotated[Literal[EventCode, HttpCode], Stated(among=get_args(EventCode))]
"""Code of an error; info.description has the meanings."""

ClosedReason = Annotated[
    Literal[SessionEnd, EventCode, HttpCode],
    Stated(among=get_args(Literal[SessionEnd, EventCode])),
]
"""Reason for the end of a session, or the code of the error that ended it.

`completed` after `session.close`, `client_closed` after a close without it, `connection_lost` if
the producer did not reattach.
"""

CloseReason = Literal[SessionEnd, EventCode, HttpCode, "resumed elsewhere"]
"""Reason for the end of a connection."""

WarningCode = Literal[
    "rate_mismatch",
    "format_mismatch",
    "float_range",
    "invalid_samples",
    "wav_header",
    "silent_channel",
    "agc_suspected",
]
"""Code of a warning; each is sent once in a session."""

LogCode = Literal[
    "queued",
    "decoded",
    "track",
    "channels_alike",
    "mixed",
    "silent_channel",
    "channel_skipped",
    "levelled",
    "raised",
    "holes",
    "time_jump",
    "left_out",
    "denoised",
    "truncated",
]
"""Code of a line in the log of a recording."""
