"""Types of the events that a client receives, told apart by their field `type`.

A newer server may send other types and more fields: ignore those that you do not know.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from stream.protocol.wire.events import Answer, StreamEvent


class Reconnecting(TypedDict):
    """A broken connection; the next attempt is made after `delay_s` seconds."""

    type: Literal["client.reconnecting"]
    why: str
    delay_s: float


class Restarted(TypedDict):
    """A session that was lost or too long; a new one began with the buffered audio."""

    type: Literal["client.restarted"]
    why: str


class ClientLagged(TypedDict):
    """The number of events that were dropped because they were not read."""

    type: Literal["client.lagged"]
    dropped: int


Event = StreamEvent | Answer | Reconnecting | Restarted | ClientLagged
"""Event of the server or of the client."""
