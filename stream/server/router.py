"""Request routing: each request is upgraded, answered or refused."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream.config import Scope, ServerConfig
from stream.errors import ConfigError
from stream.protocol.parsing import Query
from stream.server.auth import TICKET_S, AuthenticationError, Authenticator
from stream.server.connection import RequestConnection
from stream.server.downloads import RESULTS, Downloads
from stream.server.origins import known_host, same_origin
from stream.server.pages import Pages
from stream.server.responses import refuse, respond_json, unauthorized
from stream.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PRODUCE = "/v1/stream"
SUBSCRIBE = "/v1/subscribe"
FILES = "/v1/files"
TOKEN = "/v1/token"
STREAMS = "/v1/streams"

CapacityCheck = Callable[[str, Query], tuple[str, int] | None]
"""Returns (reason, retry-after seconds) if a path accepts no connection now, else None."""


class Router:
    """Decides on every request before it is upgraded. Without `downloads`, /v1/files is 404."""

    def __init__(
        self,
        config: ServerConfig,
        authenticator: Authenticator,
        pages: Pages,
        downloads: Downloads | None,
        metrics: Metrics,
        capacity: CapacityCheck,
    ) -> None:
        self._config = config
        self._authenticator = authenticator
        self._pages = pages
        self._downloads = downloads
        self._metrics = metrics
        self._capacity = capacity
        self._websocket_paths = {PRODUCE, SUBSCRIBE} | ({FILES} if downloads is not None else set())

    def route(
        self, socket: ServerConnection, request: Request
    ) -> Response | Awaitable[Response] | None:
        """Return the response to a request, or None to upgrade it to a WebSocket."""
        try:
            url = urlsplit(request.path)
        except ValueError:
            return refuse(HTTPStatus.BAD_REQUEST, "malformed request path")
        host = request.headers.get("Host", "")
        if not known_host(host, self._config.origins, is_local(self._config)):
            return refuse(
                HTTPStatus.MISDIRECTED_REQUEST,
                "unknown host name: add its origin to server.origins",
            )
        if url.path == TOKEN:
            return self._token(request)
        scope = scope_of(url.path)
        try:
            key_name = self._key_name(scope, request) if scope else ""
        except AuthenticationError as refusal:
            log.warning("request refused", extra={"path": redacted(url.path), "why": str(refusal)})
            self._metrics.refused("unauthorized")
            return unauthorized(str(refusal))
        if url.path.startswith(RESULTS) and self._downloads is not None:
            return self._downloads.answer(socket, request, key_name)
        assert isinstance(socket, RequestConnection)
        socket.key_name = key_name
        if url.path not in self._websocket_paths:
            return self._pages.answer(request)
        response = self._admit(url.path, parse_qs(url.query), request)
        if response is not None and request.method == "HEAD":
            response.body = b""
        return response

    def _admit(self, path: str, query: Query, request: Request) -> Response | None:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return refuse(HTTPStatus.UPGRADE_REQUIRED, f"{path} is a WebSocket endpoint")
        origin = request.headers.get("Origin")
        host = request.headers.get("Host", "")
        if origin is not None and not same_origin(origin, host, self._config.origins):
            log.warning("origin refused", extra={"origin": origin[:200]})
            return refuse(HTTPStatus.FORBIDDEN, f"origin_forbidden: add {origin} to server.origins")
        full = self._capacity(path, query)
        return None if full is None else refuse(HTTPStatus.SERVICE_UNAVAILABLE, *full)

    def _key_name(self, scope: Scope, request: Request) -> str:
        """Return the name of the request's key; "" if none is required.

        Raises `AuthenticationError`.
        """
        # A header may be repeated; a plain lookup raises an error then.
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).split(",")
        authorization = " ".join(request.headers.get_all("Authorization"))
        key = self._authenticator.admit(scope, authorization, [part.strip() for part in offered])
        return key.name if key is not None else ""

    def _token(self, request: Request) -> Response:
        """Exchange a key for a ticket, with which a browser opens one WebSocket."""
        if request.method != "POST":
            return refuse(
                HTTPStatus.METHOD_NOT_ALLOWED, f"method not allowed; {TOKEN} requires POST"
            )
        authenticator = self._authenticator
        key = authenticator.key(" ".join(request.headers.get_all("Authorization")))
        if authenticator.open:
            return unauthorized("this server requires no key; connect without a ticket")
        if key is None:
            return unauthorized("unauthorized: unknown key; check the Authorization header")
        body = {"ticket": authenticator.ticket(key), "expires_s": TICKET_S, "scopes": [*key.scopes]}
        return respond_json(HTTPStatus.OK, body)


SCOPES: Mapping[str, Scope] = {
    PRODUCE: "stream",
    SUBSCRIBE: "subscribe",
    FILES: "files",
    STREAMS: "subscribe",
    "/metrics": "metrics",
}


def scope_of(path: str) -> Scope | None:
    """Return the scope that a key needs for `path`; None for public paths."""
    if path.startswith(RESULTS):
        return SCOPES[FILES]
    return SCOPES[STREAMS] if path.startswith(STREAMS + "/") else SCOPES.get(path)


def redacted(path: str) -> str:
    """Return the path for the log, without the id of a result: it is half of the credentials."""
    return RESULTS if path.startswith(RESULTS) else path


def is_local(config: ServerConfig) -> bool:
    """Return whether the port is reachable from this machine only."""
    return config.host in ("127.0.0.1", "::1", "localhost")


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Load the TLS certificate of the server; None without one. Raises `ConfigError`."""
    if cert is None:
        if key is not None:
            raise ConfigError("server.tls_key: needs server.tls_cert as well")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"server.tls_cert: cannot load {cert}"
            + (f" with key {key}" if key else "")
            + f": {error.strerror or error}; both must be PEM files that this user can read"
        ) from None
    return context
