"""Endpoint of clients of Vosk and FunASR, at the path that their own servers have: "/"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from websockets.http11 import Request as HttpRequest

from stream.config import Config
from stream.delivery.transport import Handler
from stream.ingest.dialect import Request
from stream.ingest.speech_clients import SpeechClient
from stream.protocol.parsing import Query
from stream.server.access.credentials import authorization
from stream.server.access.gate import Busy
from stream.server.endpoints.producers import produce, sessions_busy
from stream.server.endpoints.router import Accepted, Route
from stream.services import Services
from stream.sessions.registry import SessionRegistry
from stream.tenants import Principal

PATH = "/"


def paths(config: Config) -> frozenset[str]:
    """Return the path of the endpoint if it is enabled."""
    return frozenset({PATH} if {"vosk", "funasr"} & {*config.telephony.dialects} else ())


def routes(services: Services, sessions: SessionRegistry) -> Mapping[str, Route]:
    """Return the route of the endpoint if it is enabled."""
    config = services.config

    def serve(accepted: Accepted) -> Handler:
        connection = accepted.connection
        request = Request(accepted.path, accepted.query, accepted.headers, connection.peer)
        dialect = SpeechClient(request, config.telephony)
        return produce(connection, dialect, services, sessions, accepted.principal)

    def busy(query: Query, principal: Principal) -> Busy | None:
        return sessions_busy(sessions, principal, query)

    def identify(request: HttpRequest, query: Query, rest: str) -> Sequence[str]:
        return authorization(request.headers, query, rest)

    limit = config.limits.max_message_bytes
    # FunASR's clients offer the subprotocol "binary".
    route = Route(
        "stream", busy, serve, limit, kept=False, subprotocols=("binary",), identify=identify
    )
    return dict.fromkeys(paths(config), route)
