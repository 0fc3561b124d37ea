"""Names as levels of topics: no name adds a level, and a hashed one cannot be recovered. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from stream.delivery.live_stream import LiveStream
from stream.delivery.stream_hash import stream_hash


def level(text: str) -> str:
    """Return `text` as one topic level of `[A-Za-z0-9_.-]`, the rest as %XX of its UTF-8.

    The mapping is injective. Wildcards and separators (MQTT 5.0, 4.7.1) never reach a topic.
    """
    return quote(text, safe="", errors="surrogatepass").replace("~", "%7E") or "%"


class StreamNames:
    """Stream ids as topic levels: readable without a key, a keyed hash with one.

    With the same key an id has the same hash; without the key it cannot be recovered.
    """

    def __init__(self, key: bytes | None) -> None:
        # The key is hashed first, because blake2b accepts at most 64 bytes.
        self._key = None if key is None else blake2b(key).digest()

    def of(self, stream: LiveStream) -> str:
        """Return the topic level of a stream. The hash differs between tenants."""
        if self._key is None:
            return level(stream.stream_id)
        return stream_hash(self._key, stream.tenant, stream.stream_id)


def topic_class(topic: str, prefix: str) -> str:
    """Return a topic with its variable levels as `+`: the same for all streams, nodes, groups."""
    levels = topic.removeprefix(f"{prefix}/").split("/")
    tenant, levels = (["t", "+"], levels[2:]) if levels[0] == "t" else ([], levels)
    return "/".join([prefix, *tenant, levels[0], *("+" for _ in levels[1:-1]), *levels[1:][-1:]])


def role_levels(roles: Sequence[str]) -> tuple[str, ...]:
    """Return one distinct topic level per channel: `speaker`, `speaker-1`, ..."""
    return tuple(
        level(role) + (f"-{before}" if (before := roles[:channel].count(role)) else "")
        for channel, role in enumerate(roles)
    )


def role_of(stream: LiveStream, body: Mapping[str, Any]) -> str:
    """Return the topic level of the channel that an event is about."""
    channel: int = body.get("channel", 0)
    return role_levels(stream.roles)[channel]
