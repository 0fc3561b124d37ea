"""Publication, as all parts of this package pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

OBJECTS: Final = 320
"""Bytes of a queued message's objects, besides its texts."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publication.

    `expiry_s`: seconds after which the broker deletes it, None for never (MQTT 5.0, 3.3.2.3.3).
    `schema` names the payload's structure. An empty retained payload deletes the retained message
    of the topic (3.3.1.3). `short` is a payload for a broker that does not take the whole one.
    `final`: the last message of its topic; it must replace what the broker retains, however late.
    `minor`: dropped before others if too many wait for the broker.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool
    expiry_s: int | None
    schema: str
    content_type: str = "application/json"
    short: bytes = b""
    final: bool = False
    minor: bool = False

    @property
    def size(self) -> int:
        """Bytes of memory that the message takes while it waits, about."""
        return OBJECTS + len(self.topic) + len(self.payload) + len(self.short)


def deletion(topic: str) -> Message:
    """Return the message that deletes the retained message of `topic`."""
    return Message(topic, b"", 1, True, None, "", "")
