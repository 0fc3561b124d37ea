"""Public state of a live stream, and its replay buffer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stream.protocol.events import SCORE, EncodedEvent
from stream.types import Body, timestamp

StreamState = Literal["active", "paused", "ended"]

MAX_REPLAY_BYTES = 262_144
"""Size limit of a replay buffer; a minute of scores takes about 60 kB."""


class BufferedEvent(NamedTuple):
    """An event in a replay buffer; `since` is when it was added, in monotonic seconds.

    Only the bytes are kept, because a stream holds a minute of events.
    """

    seq: int
    type: str
    data: bytes
    since: float


@dataclass(slots=True, eq=False)
class LiveStream:
    """Public state of one stream. The session updates it; subscribers and sinks read it.

    `roles` has one entry per channel, `analysed` lists the channels that are scored. `started` is
    Unix time in seconds. `last` holds the newest `emotion.score` of each analysed channel, `recent`
    is the replay buffer for producers and subscribers that return. `frames` returns the frames of
    the newest utterance of each channel.
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
    _replay_bytes: int = 0

    def remember(self, event: EncodedEvent, max_events: int, keep_s: float) -> None:
        """Add an event to the replay buffer.

        The buffer keeps at most `max_events` events and `MAX_REPLAY_BYTES` bytes, but always the
        newest event, and none older than `keep_s` seconds.
        """
        now = time.monotonic()
        self.recent.append(BufferedEvent(event.seq, event.type, event.data, now))
        self._replay_bytes += len(event.data)
        while (
            len(self.recent) > max_events
            or (self._replay_bytes > MAX_REPLAY_BYTES and len(self.recent) > 1)
            or self.recent[0].since < now - keep_s
        ):
            self._replay_bytes -= len(self.recent.popleft().data)
        if event.type == SCORE:
            self.last[event.body["channel"]] = event

    def snapshot(self) -> dict[str, Any]:
        """Return state and newest scores, for `/v1/streams` and `snapshot` messages."""
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
