"""What everybody may know of a stream while it lives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stream.protocol.events import SCORE, EncodedEvent
from stream.types import Body, timestamp

StreamState = Literal["active", "paused", "ended"]


KEPT_BYTES = 262_144
"""A minute of scores is some 60 kB."""


class BufferedEvent(NamedTuple):
    """An event that somebody may have missed: only its bytes, a stream keeps a minute of them."""

    seq: int
    type: str
    data: bytes
    since: float


@dataclass(slots=True, eq=False)
class LiveStream:
    """One stream's public face; the session updates it, subscribers and sinks read it.

    `roles` has one entry per channel, `analysed` the channels that are scored. `started` is Unix
    time. `last` holds the newest `emotion.score` of each analysed channel, `recent` the last events
    for whoever comes back. `frames` makes the frames of the newest utterance of each channel.
    """

    stream_id: str
    session_id: str
    roles: tuple[str, ...]
    analysed: tuple[int, ...]
    tags: tuple[str, ...]
    started: float
    adapter: str = "native"
    mqtt: bool = True
    attrs: Mapping[str, Any] = field(default_factory=dict)
    frames: Callable[[], list[Body]] = list
    state: StreamState = "active"
    speaking: frozenset[int] = frozenset()
    last: dict[int, EncodedEvent] = field(default_factory=dict)
    recent: deque[BufferedEvent] = field(default_factory=deque)
    _kept_bytes: int = 0

    def remember(self, event: EncodedEvent, most: int, keep_s: float) -> None:
        """Keep an event for whoever comes back.

        At most `most` are kept, in at most `KEPT_BYTES`, and none older than `keep_s` seconds.
        """
        now = time.monotonic()
        self.recent.append(BufferedEvent(event.seq, event.type, event.data, now))
        self._kept_bytes += len(event.data)
        while (
            len(self.recent) > most
            or (self._kept_bytes > KEPT_BYTES and len(self.recent) > 1)
            or self.recent[0].since < now - keep_s
        ):
            self._kept_bytes -= len(self.recent.popleft().data)
        if event.type == SCORE:
            self.last[event.body["channel"]] = event

    def snapshot(self) -> dict[str, Any]:
        """State and newest scores, as `/v1/streams` and `snapshot` show them."""
        return {
            "stream_id": self.stream_id,
            "session_id": self.session_id,
            "state": self.state,
            "started": timestamp(self.started),
            "adapter": self.adapter,
            "roles": list(self.roles),
            "analysed": list(self.analysed),
            "tags": list(self.tags),
            "speaking": sorted(self.speaking),
            "last": [dict(self.last[channel].body) for channel in sorted(self.last)],
        }
