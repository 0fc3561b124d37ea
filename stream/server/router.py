"""The front door: which requests are upgraded, which are answered, which are turned away."""

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
from stream.server.responses import answer, refuse, unauthorized
from stream.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PRODUCE = "/v1/stream"
SUBSCRIBE = "/v1/subscribe"
FILES = "/v1/files"
TOKEN = "/v1/token"
STREAMS = "/v1/streams"

Busy = Callable[[str, Query], tuple[str, int] | None]
"""Why an upgrade of this path cannot be had now, and in how many seconds to ask again; or None."""


class Router:
    """Decides on every request before it is upgraded. No `downloads`: none are offered."""

    def __init__(
        self,
        config: ServerConfig,
        door: Authenticator,
        pages: Pages,
        downloads: Downloads | None,
        metrics: Metrics,
        busy: Busy,
    ) -> None:
        self._config = config
        self._door = door
        self._pages = pages
        self._downloads = downloads
        self._metrics = metrics
        self._busy = busy
        self._sockets = {PRODUCE, SUBSCRIBE} | ({FILES} if downloads is not None else set())

    def route(
        self, socket: ServerConnection, request: Request
    ) -> Response | Awaitable[Response] | None:
        """Answer plain requests; let upgrades through that may come in. None: upgrade."""
        try:
            url = urlsplit(request.path)
        except ValueError:
            return refuse(HTTPStatus.BAD_REQUEST, "the request's path is no path")
        host = request.headers.get("Host", "")
        if not known_host(host, self._config.origins, local(self._config)):
            return refuse(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server is not known by that name: add its origin to server.origins",
            )
        if url.path == TOKEN:
            return self._token(request)
        scope = opened_by(url.path)
        try:
            key_name = self._key_name(scope, request) if scope else ""
        except AuthenticationError as refusal:
            log.warning("refused at the door", extra={"path": kind(url.path), "why": str(refusal)})
            self._metrics.refused("unauthorized")
            return unauthorized(str(refusal))
        if url.path.startswith(RESULTS) and self._downloads is not None:
            return self._downloads.answer(socket, request, key_name)
        assert isinstance(socket, RequestConnection)
        socket.key_name = key_name
        if url.path not in self._sockets:
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
        busy = self._busy(path, query)
        return None if busy is None else refuse(HTTPStatus.SERVICE_UNAVAILABLE, *busy)

    def _key_name(self, scope: Scope, request: Request) -> str:
        """Whose key opens it; "" where none is wanted. Raises `AuthenticationError`."""
        # A header may come twice, which a plain lookup does not take.
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).split(",")
        authorization = " ".join(request.headers.get_all("Authorization"))
        key = self._door.admit(scope, authorization, [part.strip() for part in offered])
        return key.name if key is not None else ""

    def _token(self, request: Request) -> Response:
        """A browser's key for a ticket, which opens one WebSocket."""
        if request.method != "POST":
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{TOKEN} takes POST")
        key = self._door.key(" ".join(request.headers.get_all("Authorization")))
        if self._door.open or key is None:
            why = "this server wants no key" if self._door.open else "unauthorized: no such key"
            return unauthorized(why)
        body = {"ticket": self._door.ticket(key), "expires_s": TICKET_S, "scopes": [*key.scopes]}
        return answer(HTTPStatus.OK, body)


SCOPES: Mapping[str, Scope] = {
    PRODUCE: "stream",
    SUBSCRIBE: "subscribe",
    FILES: "files",
    STREAMS: "subscribe",
    "/metrics": "metrics",
}


def opened_by(path: str) -> Scope | None:
    """What a key must open for `path`; None where all who reach the port may go."""
    if path.startswith(RESULTS):
        return SCOPES[FILES]
    return SCOPES[STREAMS] if path.startswith(STREAMS + "/") else SCOPES.get(path)


def kind(path: str) -> str:
    """A path for the log: the address of a result is half a key, and does not belong there."""
    return RESULTS if path.startswith(RESULTS) else path


def local(config: ServerConfig) -> bool:
    """Whether only this machine can reach the port."""
    return config.host in ("127.0.0.1", "::1", "localhost")


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The server's certificate, if there is one. Raises `ConfigError`."""
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
