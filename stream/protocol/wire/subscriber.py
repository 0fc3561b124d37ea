"""Answers to a subscriber."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from stream.fields import Limits, Role, Stated
from stream.protocol.wire.alerts import Alert
from stream.protocol.wire.analysis import EmotionScore
from stream.protocol.wire.common import Reply
from stream.protocol.wire.conversation import Conversation
from stream.protocol.wire.values import (
    ChannelNumber,
    Count,
    SessionId,
    StreamId,
    Tags,
    TenantName,
    Time,
)
from stream.terms import MAX_CHANNELS, StreamState

MAX_SUBSCRIPTIONS = 32
"""Subscriptions of one connection."""

MAX_PATTERNS = 256
"""Globs in the filters of one connection, besides "*"."""


Adapter = Annotated[
    str, Stated(among=("native", "asterisk", "audiosocket", "twilio", "l16"), example="native")
]
"""Dialect of the stream's producer; `native` is `emotide.v1`."""


class StreamSnapshot(TypedDict):
    """State and newest scores of a stream; also the body of `GET /v1/streams/{id}`."""

    tenant: NotRequired[TenantName]
    """Tenant of the stream. Only for keys that may watch several tenants."""
    stream_id: StreamId
    session_id: SessionId
    state: StreamState
    started: Time
    adapter: Adapter
    roles: Annotated[list[Role], Stated(min_length=1, max_length=MAX_CHANNELS)]
    analysed: list[ChannelNumber]
    tags: Tags
    speaking: list[ChannelNumber]
    """Channels with speech now."""
    last: list[EmotionScore]
    """The newest score of each channel that has one."""
    conversation: NotRequired[Conversation]
    """The newest `conversation`."""
    alerts: NotRequired[list[Alert]]
    """The newest step of each open alert."""


class SubscribedBody(TypedDict):
    """The beginning of a subscription, with the number of live streams that it matches."""

    type: Literal["subscribed"]
    id: str
    matched: Count


class Subscribed(Reply, SubscribedBody): ...


class UnsubscribedBody(TypedDict):
    """The end of a subscription."""

    type: Literal["unsubscribed"]
    id: str


class Unsubscribed(Reply, UnsubscribedBody): ...


class SubscriptionsBody(TypedDict):
    """The subscriptions of the connection."""

    type: Literal["subscriptions"]
    ids: Annotated[list[str], Stated(max_length=MAX_SUBSCRIPTIONS, unique=True)]


class Subscriptions(Reply, SubscriptionsBody): ...


class SnapshotBody(TypedDict):
    """State and newest scores of every matching stream."""

    type: Literal["snapshot"]
    sub: str
    streams: list[StreamSnapshot]


class Snapshot(Reply, SnapshotBody): ...


class LaggedBody(TypedDict):
    """The number of events that a slow reader lost."""

    type: Literal["lagged"]
    dropped: Annotated[int, Limits(ge=1)]


class Lagged(Reply, LaggedBody): ...
