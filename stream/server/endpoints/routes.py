"""The WebSocket endpoints: path, scope, capacity, largest message, handler."""

from __future__ import annotations

from collections.abc import Mapping

from stream.config import Config, FilesConfig
from stream.delivery.transport import Handler
from stream.ingest.dialect import Request
from stream.ingest.emotide import Emotide
from stream.protocol.parsing import Query
from stream.quotas import Quotas
from stream.recordings.background import BackgroundJobs
from stream.server.access.gate import Busy
from stream.server.endpoints import audiohook, speech_clients, telephony
from stream.server.endpoints.producers import RETRY_S, produce, sessions_busy
from stream.server.endpoints.router import Accepted, Route, Router
from stream.server.endpoints.subscriber import Subscriber
from stream.server.endpoints.uploads import UploadHandler
from stream.services import Services
from stream.sessions.registry import SessionRegistry
from stream.tenants import Principal

PRODUCE, SUBSCRIBE, FILES = "/v1/stream", "/v1/subscribe", "/v1/files"

CONTROL_BYTES = 65_536
"""Largest message of a subscriber, which sends filters only."""


def paths(config: Config) -> frozenset[str]:
    """Return the paths of all endpoints that are enabled."""
    files = {FILES} if config.files.enabled else set()
    return (
        telephony.paths(config)
        | audiohook.paths(config)
        | speech_clients.paths(config)
        | {PRODUCE, SUBSCRIBE}
        | files
    )


def recordings_busy(
    config: FilesConfig,
    router: Router,
    jobs: BackgroundJobs | None,
    quotas: Quotas,
    principal: Principal,
) -> Busy | None:
    """Return why no recording is accepted now, over a WebSocket or by POST; None if one is.

    Raises `ProtocolError` (quota_exceeded).
    """
    holders = router.holders(UploadHandler) + (jobs.holders() if jobs is not None else [])
    if len(holders) >= config.max_clients:
        return "overloaded: files.max_clients", RETRY_S
    quotas.check("recordings", principal, holders)
    return None


def routes(
    services: Services, sessions: SessionRegistry, jobs: BackgroundJobs, router: Router
) -> Mapping[str, Route]:
    """Return the routes of all endpoints that are enabled."""
    limits, files = services.config.limits, services.config.files

    def serve_producer(request: Accepted) -> Handler:
        dialect = Emotide(
            Request(request.path, request.query, request.headers, request.connection.peer)
        )
        return produce(request.connection, dialect, services, sessions, request.principal)

    def producers_busy(query: Query, principal: Principal) -> Busy | None:
        # A producer that returns has a session already.
        return None if "resume" in query else sessions_busy(sessions, principal, query)

    def subscribers_busy(query: Query, principal: Principal) -> Busy | None:
        holders = router.holders(Subscriber)
        if len(holders) >= limits.max_subscribers:
            return "overloaded: limits.max_subscribers", RETRY_S
        services.quotas.check("subscribers", principal, holders)
        return None

    found = {
        PRODUCE: Route(
            "stream", producers_busy, serve_producer, limits.max_message_bytes, kept=False
        ),
        SUBSCRIBE: Route(
            "subscribe",
            subscribers_busy,
            lambda request: Subscriber(request.connection, services, request.principal),
            CONTROL_BYTES,
        ),
    }
    if files.enabled:
        found[FILES] = Route(
            "files",
            lambda query, principal: recordings_busy(
                files, router, jobs, services.quotas, principal
            ),
            lambda request: UploadHandler(request.connection, jobs.services, request.principal),
            limits.max_message_bytes,
        )
    return {
        **found,
        **telephony.routes(services, sessions),
        **audiohook.routes(services, sessions, router.authenticator),
        **speech_clients.routes(services, sessions),
    }
