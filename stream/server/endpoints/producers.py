"""Parts that all endpoints of producers share: the check for room, and the start of a producer."""

from __future__ import annotations

from stream.delivery.transport import Transport
from stream.ingest.dialect import Dialect
from stream.ingest.producer import Producer
from stream.protocol.parsing import Query
from stream.server.access.gate import Busy
from stream.services import Services
from stream.sessions.registry import SessionRegistry
from stream.tenants import Principal

RETRY_S = 5
"""Seconds after which a client that was refused for lack of room may try again."""


def sessions_busy(
    sessions: SessionRegistry, principal: Principal, query: Query | None = None
) -> Busy | None:
    """Return why no session can be opened now; None if one can.

    A session with the stream id in `query` may replace another one. Raises `ProtocolError`
    (quota_exceeded).
    """
    if sessions.full:
        return "overloaded: limits.max_sessions", RETRY_S
    stream_ids = (query or {}).get("stream_id", [])
    sessions.check_quota(principal, stream_ids[0] if stream_ids else None)
    return None


def produce(
    transport: Transport,
    dialect: Dialect,
    services: Services,
    sessions: SessionRegistry,
    principal: Principal,
) -> Producer:
    """Return the handler of a producer's connection, which has run what the request implies."""
    producer = Producer(transport, dialect, services, sessions, principal)
    producer.connected()
    return producer
