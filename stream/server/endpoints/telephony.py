"""Endpoints of telephony systems: WebSocket paths, the TCP port of AudioSocket, who may connect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address, ip_network

from websockets.http11 import Request as HttpRequest

from stream.config import Config, TelephonyConfig, TelephonyDialect
from stream.delivery.transport import Handler
from stream.errors import ConfigError
from stream.ingest.asterisk import Asterisk
from stream.ingest.audiosocket import AudioSocket
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Dialect, Request
from stream.ingest.l16 import L16
from stream.ingest.twilio import Twilio
from stream.protocol.parsing import Query
from stream.protocol.wire.codes import ErrorCode
from stream.server.access.auth import keys_of
from stream.server.access.credentials import TwilioSignatures, authorization
from stream.server.access.gate import Busy, Refusal
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.tcp import TcpConnection
from stream.server.endpoints.producers import produce, sessions_busy
from stream.server.endpoints.router import Accepted, Identify, Route
from stream.services import Services
from stream.sessions.registry import SessionRegistry
from stream.tenants import ANYONE, Principal

log = logging.getLogger(__name__)

MakeDialect = Callable[[Request, CallDefaults], Dialect]

DIALECTS: Mapping[TelephonyDialect, tuple[MakeDialect, Sequence[str]]] = {
    "asterisk": (Asterisk, ("media",)),
    "twilio": (Twilio, ()),
    "l16": (L16, ("audio.drachtio.org", "audio.jambonz.org")),
}
"""Dialect and subprotocols of each endpoint, by the last part of its path."""


def paths(config: Config) -> frozenset[str]:
    """Return the paths of the dialects that are enabled."""
    return frozenset(_path(name) for name in config.telephony.dialects if name in DIALECTS)


def _path(name: TelephonyDialect) -> str:
    return f"/v1/{name}"


def routes(services: Services, sessions: SessionRegistry) -> Mapping[str, Route]:
    """Return the routes of the dialects that are enabled."""
    config = services.config

    def serve(make: MakeDialect, request: Accepted) -> Handler:
        query = {name: values for name, values in request.query.items() if name != "key"}
        connection = request.connection
        connection.keep_alive()
        dialect = make(
            Request(request.path, query, request.headers, connection.peer),
            call_defaults(config.telephony),
        )
        return produce(connection, dialect, services, sessions, request.principal)

    def busy(query: Query, principal: Principal) -> Busy | None:
        return sessions_busy(sessions, principal)

    return {
        _path(name): Route(
            "stream",
            busy,
            partial(serve, make),
            config.limits.max_message_bytes,
            kept=False,
            subprotocols=subprotocols,
            identify=_identify(name, config, services.metrics.refused),
        )
        for name, (make, subprotocols) in DIALECTS.items()
        if name in config.telephony.dialects
    }


def _identify(
    name: TelephonyDialect, config: Config, refused: Callable[[ErrorCode], None]
) -> Identify:
    """Return the function that decides who sends a request to an endpoint."""

    def by_key(request: HttpRequest, query: Query, secret: str) -> Principal | Sequence[str]:
        return authorization(request.headers, query, secret)

    signatures = TwilioSignatures(config.telephony, principals(config))
    if name != "twilio" or not signatures.configured:
        return by_key

    def by_signature(request: HttpRequest, query: Query, secret: str) -> Principal | Sequence[str]:
        try:
            principal = signatures.check(request.headers, request.path)
            if principal is None and not config.auth.keys:
                raise Refusal(
                    HTTPStatus.FORBIDDEN, "forbidden: this server requires X-Twilio-Signature"
                )
        except Refusal as refusal:
            refused("forbidden")
            log.warning("request refused", extra={"path": _path(name), "why": refusal.message})
            raise
        return by_key(request, query, secret) if principal is None else principal

    return by_signature


def call_defaults(config: TelephonyConfig) -> CallDefaults:
    """Return what is true of calls that do not state it."""
    return CallDefaults(config.role, config.disclosed)


def principals(config: Config) -> Mapping[str, Principal]:
    """Return the principals of all keys, by name."""
    return {key.name: key.principal for key in keys_of(config.auth)}


class AudioSocketPort:
    """The TCP port for Asterisk's AudioSocket, which only allowed machines may use."""

    def __init__(
        self, services: Services, sessions: SessionRegistry, queue: FairQueue | None = None
    ) -> None:
        self._services = services
        self._sessions = sessions
        self._queue = queue
        config = services.config
        self._config = config.telephony
        self._principal = principals(config).get(self._config.audiosocket_key, ANYONE)
        self._allowed = [ip_network(network) for network in self._config.audiosocket_allow]
        self._connections: set[TcpConnection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen, if a port is configured. Raises `ConfigError` if it cannot be had."""
        host, port = self._config.audiosocket_host, self._config.audiosocket_port
        if not port:
            return
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connection, host, port)
        except OSError as error:
            raise ConfigError(
                f"telephony.audiosocket_port: cannot listen on {host}:{port}: "
                f"{error.strerror or error}; choose another port"
            ) from None
        log.info("audiosocket listens", extra={"host": host, "port": port})

    def close(self) -> None:
        """Stop listening, and drop every connection that is still open."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def _connection(self) -> TcpConnection:
        return TcpConnection(self._serve, self._connections, self._queue)

    def _serve(self, connection: TcpConnection) -> Handler | None:
        address = ip_address(connection.peer.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in self._allowed):
            why = "not in telephony.audiosocket_allow"
        elif self._sessions.full or len(self._connections) > self._limit:
            why = "limits.max_sessions"
        else:
            connection.keep_alive()
            connection.meter = partial(self._services.quotas.bytes_received, self._principal)
            dialect = AudioSocket(call_defaults(self._config))
            return produce(connection, dialect, self._services, self._sessions, self._principal)
        log.warning("audiosocket refused", extra={"peer": connection.peer, "why": why})
        connection.abort()
        return None

    @property
    def _limit(self) -> int:
        return self._services.config.limits.max_sessions
