"""Checks that every request passes, HTTP and WebSocket alike: host, key, origin."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Response

from stream.config import Scope, ServerConfig
from stream.protocol.errors import ProtocolError
from stream.quotas import Quotas
from stream.server.access.auth import AuthenticationError, Authenticator
from stream.server.access.origins import known_host, same_origin
from stream.server.responses import JSON, SECURITY, error_body
from stream.telemetry.metrics import Metrics
from stream.tenants import Principal

log = logging.getLogger(__name__)

FILES = "/v1/files"
RESULTS = "/v1/results/"
STREAMS = "/v1/streams/"
FEEDBACK = "/v1/feedback"
HISTORY = "/v1/history"

_LOG_KEY = secrets.token_bytes(16)

SCOPES: Mapping[str, Scope] = {
    FILES: "files",
    FILES + "/": "files",
    RESULTS: "files",
    "/v1/groups": "subscribe",
    "/v1/streams": "subscribe",
    STREAMS: "subscribe",
    FEEDBACK: "feedback",
    FEEDBACK + "/": "feedback",
    HISTORY: "history",
    HISTORY + "/": "history",
    "/metrics": "metrics",
}
"""The scope that a key needs for an HTTP path, or for all paths below one that ends with "/"."""

Busy = tuple[str, int]
"""Reason that a path accepts no request now, and the seconds after which to try again."""


class Refusal(Exception):
    """A request that is not served: HTTP status, message, and seconds until it may be."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s
        self._more = headers or {}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response besides those that every response carries."""
        headers = {"Content-Type": JSON, "Cache-Control": "no-store", **self._more}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="emotide"'
        return headers

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return error_body(self.message)

    def response(self) -> Response:
        """Return the response to a WebSocket handshake."""
        headers = Headers({**self.headers, **SECURITY, "Content-Length": str(len(self.body))})
        headers["Connection"] = "close"
        return Response(self.status.value, self.status.phrase, headers, self.body)


def over_quota(error: ProtocolError) -> Refusal:
    """Return the refusal of a request that a quota, or the server's own limit, does not allow."""
    full = error.code == "overloaded"
    status = HTTPStatus.SERVICE_UNAVAILABLE if full else HTTPStatus.TOO_MANY_REQUESTS
    retry_after_s = None if error.retry_after_s is None else math.ceil(error.retry_after_s)
    message = f"{error.code}: {error.message}"
    return Refusal(status, message, retry_after_s)


def upgrade_required(path: str, remedy: str = "") -> Refusal:
    """Return the refusal of a plain request for a WebSocket endpoint."""
    return Refusal(
        HTTPStatus.UPGRADE_REQUIRED,
        f"{path} is a WebSocket endpoint{remedy}",
        headers={"Upgrade": "websocket"},
    )


class Gate:
    """Decides whether a request is served; every check raises `Refusal`."""

    def __init__(
        self,
        config: ServerConfig,
        authenticator: Authenticator,
        metrics: Metrics,
        websockets: Collection[str],
        quotas: Quotas | None = None,
    ) -> None:
        self._config = config
        self.authenticator = authenticator
        self._metrics = metrics
        self._quotas = quotas or Quotas()
        self.websockets = websockets
        """Paths of WebSocket endpoints, whether they serve already or not."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of pages that may use this server, besides its own page."""
        return self._config.origins

    def check_host(self, hosts: Sequence[str]) -> None:
        """Refuse a Host header that does not name this server, or that comes twice."""
        if len(hosts) > 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the Host header came twice")
        host = hosts[0] if hosts else ""
        if not known_host(host, self._config, self.authenticator.open):
            scheme = "https" if self._config.tls_cert else "http"
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"unknown host name: use an IP address, or add {scheme}://{host[:200]} to "
                "server.origins",
            )

    def check_known(self, path: str) -> None:
        """Refuse a WebSocket on a path that is not an endpoint."""
        if path not in self.websockets:
            raise Refusal(HTTPStatus.NOT_FOUND, "no WebSocket endpoint at this path")

    def check_key(
        self,
        scope: Scope,
        path: str,
        authorization: Sequence[str],
        offered: Sequence[str] = (),
    ) -> Principal:
        """Return who sends a request whose key opens `scope`."""
        try:
            return self.authenticator.admit(scope, " ".join(authorization), offered)
        except AuthenticationError as error:
            log.warning("request refused", extra={"path": redacted(path), "why": str(error)})
            self._metrics.refused("unauthorized")
            forbidden = str(error).startswith("forbidden")
            status = HTTPStatus.FORBIDDEN if forbidden else HTTPStatus.UNAUTHORIZED
            raise Refusal(status, str(error)) from None

    def check_request(self, principal: Principal) -> None:
        """Refuse an HTTP request beyond the rate of its key or tenant."""
        try:
            self._quotas.check_request(principal)
        except ProtocolError as error:
            self._metrics.refused(error.code)
            raise over_quota(error) from None

    def check_origin(self, origins: Sequence[str], hosts: Sequence[str]) -> None:
        """Refuse a browser page that is neither ours nor allowed."""
        if len(origins) > 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the Origin header came twice")
        host = hosts[0] if hosts else ""
        if origins and not same_origin(origins[0], host, self._config.origins):
            log.warning("origin refused", extra={"origin": origins[0][:200]})
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"origin_forbidden: add {origins[0][:200]} to server.origins",
            )


def scope_of(path: str) -> Scope | None:
    """Return the scope that a key needs for an HTTP path; None for public paths."""
    folder = "/".join(path.split("/")[:3]) + "/"
    return SCOPES.get(path) or SCOPES.get(folder if path != folder.rstrip("/") else path)


def redacted(path: str) -> str:
    """Return the path for the log, shortened.

    The id of a result is left out: it is half of the credentials. So is what stands behind the path
    of a dialect: it may be a key, even where the path is mistyped. That of a stream may be a
    telephone number; its keyed hash shows which records belong together until the next start.
    """
    folder = "/".join(path.split("/")[:3]) + "/"
    if path.startswith("/v1/") and path.startswith(folder) and folder != STREAMS:
        return folder[:64]
    if path.startswith(STREAMS):
        stream_id, slash, rest = path.removeprefix(STREAMS).partition("/")
        digest = blake2b(stream_id.encode("utf-8", "replace"), key=_LOG_KEY, digest_size=4)
        return f"{STREAMS}#{digest.hexdigest()}{slash}{rest[:16]}"
    return path[:64]
