"""Fields that many events have in common."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from stream.fields import Role
from stream.protocol.wire.values import (
    ChannelNumber,
    FileId,
    Seq,
    SessionId,
    StreamId,
    SubscriptionId,
    TenantName,
    Time,
    Version,
)


class Stamped(TypedDict):
    """Common fields of the events of a stream."""

    v: Version
    seq: Seq
    session_id: SessionId
    stream_id: StreamId
    ts: Time
    sub: NotRequired[SubscriptionId]
    tenant: NotRequired[TenantName]
    """Tenant of the stream. Only for subscribers that may watch several tenants."""


class Reply(TypedDict):
    """Common fields of messages that belong to no stream."""

    v: Version
    ts: Time


class OfFile(TypedDict):
    """The recording that a message is about."""

    file_id: FileId


class Channel(TypedDict):
    """A channel of a stream or recording, and its role."""

    channel: ChannelNumber
    role: Role
