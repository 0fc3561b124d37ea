"""Public state of a live stream, and its replay buffer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from stream.protocol.events import SCORE, EncodedEvent
from stream.protocol.wire.alerts import Alert
from stream.protocol.wire.analysis import EmotionScore
from stream.protocol.wire.conversation import Conversation
from stream.protocol.wire.subscriber import StreamSnapshot
from stream.tenants import DEFAULT, StreamKey
from stream.terms import StreamState
from stream.types import Body, timestamp

MAX_REPLAY_BYTES = 262_144
"""Size limit of a replay buffer; a minute of scores takes about 60 kB."""


class ReplayBuffer:
    """The last events of a stream, for producers and subscribers that return.

    Holds at most `max_events` events and `MAX_REPLAY_BYTES` bytes, none older than `keep_s`
    seconds, and always the newest.
    """

    def __init__(self, max_events: int = 1_000, keep_s: float = 90.0) -> None:
        self._max_events = max_events
        self._keep_s = keep_s
        self._events: deque[tuple[float, bool, EncodedEvent]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: EncodedEvent, shared: bool = True) -> None:
        """Add an event, and drop the oldest ones that are beyond the bounds.

        One that is not `shared` is for the producer only.
        """
        now = time.monotonic()
        self._events.append((now, shared, event.bare()))
        self._bytes += len(event.data)
        while len(self._events) > 1 and self._is_over(now):
            self._bytes -= len(self._events.popleft()[2].data)

    def _is_over(self, now: float) -> bool:
        too_much = self._bytes > MAX_REPLAY_BYTES or len(self._events) > self._max_events
        return too_much or self._events[0][0] < now - self._keep_s

    def since(self, seq: int) -> Iterator[EncodedEvent]:
        """Yield the events after `seq`, oldest first."""
        return (event for _, _, event in self._events if event.seq > seq)

    def shared_since(self, seq: int) -> Iterator[EncodedEvent]:
        """Yield the events after `seq` that subscribers get, oldest first."""
        return (event for _, shared, event in self._events if shared and event.seq > seq)


@dataclass(slots=True, eq=False, weakref_slot=True)
class LiveStream:
    """Public state of one stream. The session updates it; subscribers and sinks read it.

    Its id is unique within its tenant. `roles` has one entry per channel, `analysed` lists the
    channels that are scored. `started` is Unix time in seconds. `last` holds the newest
    `emotion.score` of each analysed channel, `conversation` the newest event of that type, `alerts`
    the newest step of each open alert by its id, `replay` the last events, for producers and
    subscribers that return. `frames` returns the frames of the newest utterance of each channel.
    `acknowledge` gets the id of an alert and who acknowledges it; it returns False unless the alert
    is open.
    """

    stream_id: str
    session_id: str
    roles: tuple[str, ...]
    analysed: tuple[int, ...]
    tags: tuple[str, ...]
    started: float
    adapter: str = "native"
    tenant: str = DEFAULT
    mqtt: bool = True
    attrs: Mapping[str, Any] = field(default_factory=dict)
    frames: Callable[[], list[Body]] = list
    acknowledge: Callable[[str, str], bool] = lambda alert_id, by: False
    state: StreamState = "active"
    speaking: frozenset[int] = frozenset()
    last: dict[int, EncodedEvent] = field(default_factory=dict)
    conversation: EncodedEvent | None = None
    alerts: dict[str, EncodedEvent] = field(default_factory=dict)
    replay: ReplayBuffer = field(default_factory=ReplayBuffer)

    def remember(self, event: EncodedEvent, shared: bool = True) -> None:
        """Keep an event for those who return, and a score as the newest of its channel.

        An event that is not `shared` (an acknowledgement, an error) is for the producer only.
        """
        self.replay.append(event, shared)
        if event.type == SCORE:
            self.last[event.body["channel"]] = event
        elif event.type == "conversation":
            self.conversation = event
        elif event.type == "alert":
            self.alerts.pop(event.body["id"], None)
            if event.body["state"] != "end":
                self.alerts[event.body["id"]] = event

    @property
    def speakers(self) -> frozenset[int]:
        """Channels with speech now; none while the producer is away, whose last word is open."""
        return self.speaking if self.state != "detached" else frozenset()

    @property
    def key(self) -> StreamKey:
        """Tenant and id, under which the stream is registered."""
        return self.tenant, self.stream_id

    def snapshot(self, with_tenant: bool = False) -> StreamSnapshot:
        """Return state and newest scores, for `/v1/streams` and `snapshot` messages."""
        snapshot: StreamSnapshot = {
            "stream_id": self.stream_id,
            "session_id": self.session_id,
            "state": self.state,
            "started": timestamp(self.started),
            "adapter": self.adapter,
            "roles": list(self.roles),
            "analysed": list(self.analysed),
            "tags": list(self.tags),
            "speaking": sorted(self.speakers),
            "last": [cast(EmotionScore, self.last[ch].body) for ch in sorted(self.last)],
        }
        if self.conversation is not None:
            snapshot["conversation"] = cast(Conversation, self.conversation.body)
        if self.alerts:
            snapshot["alerts"] = [cast(Alert, event.body) for event in self.alerts.values()]
        if with_tenant:
            snapshot["tenant"] = self.tenant
        return snapshot
