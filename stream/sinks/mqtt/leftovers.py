"""Retained topics that a killed process of this node left on the broker. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.payloads import VERSION, json_message, unix_ms
from stream.sinks.mqtt.topics import Topics
from stream.tenants import DEFAULT

MAX_LEFTOVERS: Final = 10_000
"""Topics that are cleared after one start."""

_LEVEL = re.compile(r"[A-Za-z0-9_.%-]{1,256}")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A stream of a dead process: its state as `ended`, and the ends of its other topics."""

    state: Message
    ends: tuple[Message, ...]
    tenant: str
    tags: tuple[str, ...]


class Leftovers:
    """Collects what the broker retains under `Topics.states` from this node.

    The messages that end a stream expire after `expiry_s` seconds.
    """

    def __init__(self, topics: Topics, expiry_s: int) -> None:
        self._topics = topics
        self._expiry_s = expiry_s
        self._found: dict[str, Leftover] = {}

    def add(self, topic: str, payload: bytes, now: float) -> None:
        """Add a retained message, if it is the state of a stream of this node."""
        if len(self._found) < MAX_LEFTOVERS or topic in self._found:
            leftover = _leftover(self._topics, topic, payload, now, self._expiry_s)
            if leftover is not None:
                self._found[topic] = leftover

    def discard(self, topic: str) -> None:
        """Remove a topic on which a live process publishes."""
        self._found.pop(topic, None)

    def take(self) -> list[Leftover]:
        """Return what was found, and forget it."""
        found, self._found = self._found, {}
        return list(found.values())


def _leftover(
    topics: Topics, topic: str, payload: bytes, now: float, expiry_s: int
) -> Leftover | None:
    try:
        body: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    # Other versions and other programs may publish here: only what this version published is
    # touched, and only by the node that published it.
    if not isinstance(body, dict) or (body.get("v"), body.get("node")) != (VERSION, topics.node):
        return None
    tenant, stream = body.get("tenant", DEFAULT), body.get("stream")
    if not (isinstance(tenant, str) and isinstance(stream, str) and _LEVEL.fullmatch(stream)):
        return None
    if topic != f"{topics.of_tenant(tenant)}/stream/{stream}/state":
        return None
    ended = {**body, "t": unix_ms(now), "state": "ended"}
    state = replace(json_message(topic, ended, "state", 1, True, expiry_s), final=True)
    roles = _texts(body.get("roles"), _LEVEL)
    leaves = [(role, "score") for role in _texts(body.get("analysed"), _LEVEL)]
    if len(roles) > 1:
        leaves += [(role, "conversation") for role in roles]
    ends = topics.ends(topic.removesuffix("/state"), leaves, now, expiry_s)
    return Leftover(state, tuple(ends), tenant, _texts(body.get("tags"), re.compile(r".{1,256}")))


def _texts(values: Any, pattern: re.Pattern[str]) -> tuple[str, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(v for v in values if isinstance(v, str) and pattern.fullmatch(v))[:8]
