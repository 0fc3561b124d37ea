"""The newest utterances of live streams, which listeners may still mark. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from stream.feedback.utterance import MarkableUtterance
from stream.tenants import StreamKey


@dataclass(slots=True)
class _Session:
    stream_id: str
    channels: dict[int, deque[MarkableUtterance]] = field(default_factory=dict)


@dataclass(slots=True)
class _Tenant:
    sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)
    """Sessions by id; the one that spoke last is the last."""
    bytes: int = 0


class RecentUtterances:
    """At most `per_channel` utterances of each channel, and `max_bytes` of each tenant.

    Of too many bytes, the session that spoke longest ago loses its oldest utterances first. A
    session that has ended keeps its utterances until then.
    """

    def __init__(self, per_channel: int, max_bytes: int) -> None:
        self._per_channel = per_channel
        self._max_bytes = max_bytes
        self._tenants: dict[str, _Tenant] = {}

    def bytes(self, tenant: str) -> int:
        """Return the bytes that a tenant's utterances take."""
        found = self._tenants.get(tenant)
        return 0 if found is None else found.bytes

    def add(self, stream: StreamKey, session_id: str, utterance: MarkableUtterance) -> None:
        """Keep an utterance that has ended; drop the oldest of too many."""
        tenant, stream_id = stream
        kept = self._tenants.setdefault(tenant, _Tenant())
        session = kept.sessions.setdefault(session_id, _Session(stream_id))
        kept.sessions.move_to_end(session_id)
        channel = session.channels.setdefault(utterance.channel, deque())
        channel.append(utterance)
        kept.bytes += utterance.bytes
        if len(channel) > self._per_channel:
            kept.bytes -= channel.popleft().bytes
        while kept.bytes > self._max_bytes:
            self._drop_oldest(kept)

    def find(
        self, stream: StreamKey, session_id: str, channel: int, utterance: int
    ) -> tuple[str, MarkableUtterance] | None:
        """Return the id of a session of the stream, and its utterance; None if it is not kept.

        Without a `session_id` it is the session with this stream id that spoke last.
        """
        tenant, stream_id = stream
        kept = self._tenants.get(tenant)
        if kept is None:
            return None
        for found_id in [session_id] if session_id else reversed(kept.sessions):
            session = kept.sessions.get(found_id)
            if session is not None and session.stream_id == stream_id:
                for found in session.channels.get(channel, ()):
                    if found.utterance == utterance:
                        return found_id, found
                return None
        return None

    def forget(self, tenant: str, session_id: str) -> None:
        """Drop all utterances of a session."""
        kept = self._tenants.get(tenant)
        session = None if kept is None else kept.sessions.pop(session_id, None)
        if kept is not None and session is not None:
            kept.bytes -= sum(one.bytes for line in session.channels.values() for one in line)

    @staticmethod
    def _drop_oldest(kept: _Tenant) -> None:
        session_id, session = next(iter(kept.sessions.items()))
        lines = [line for line in session.channels.values() if line]
        kept.bytes -= min(lines, key=lambda line: line[0].start).popleft().bytes
        if not any(session.channels.values()):
            del kept.sessions[session_id]
