"""The conversation of a stream: who talks when. docs/conversation.md has the definitions."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from stream.fields import Share, Stated
from stream.protocol.wire.common import Channel, Stamped
from stream.protocol.wire.values import Count, Milliseconds
from stream.terms import MAX_CHANNELS


class Side(Channel):
    """Measures of one channel."""

    talk_ms: Milliseconds
    talk_share: Share | None
    """Part of all talk; null while no channel has talked."""
    overlap_ms: Milliseconds
    """Time in which it talked over another channel that had begun before."""
    turns: Count
    response_ms: Milliseconds | None
    """Mean silence before its turns; null before its first response."""
    longest_turn_ms: Milliseconds


class Measures(TypedDict):
    """Measures of a conversation over some time."""

    heard_ms: Milliseconds
    """Time with audio."""
    silence_ms: Milliseconds
    """Time in which no channel talks."""
    dead_air_ms: Milliseconds
    """Part of it in silences of 3 s or more."""
    longest_silence_ms: Milliseconds
    overlap_ms: Milliseconds
    """Time in which several channels talk."""
    sides: Annotated[list[Side], Stated(min_length=2, max_length=MAX_CHANNELS)]


class Measured(TypedDict):
    """Conversation up to a position, over the last minute and since the beginning."""

    audio_ms: Milliseconds
    silence_now_ms: Milliseconds
    """Length of the silence at this position; 0 while a channel talks."""
    minute: Measures
    call: Measures


class ConversationBody(Measured):
    """Measures of the conversation, after every 5 s of audio."""

    type: Literal["conversation"]


class Conversation(Stamped, ConversationBody): ...
