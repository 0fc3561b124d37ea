"""Endpoint of Genesys AudioHook, with the check of its API keys and signatures."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest

from stream.config import Config, TelephonyConfig
from stream.delivery.transport import Handler
from stream.ingest.audiohook import AudioHook
from stream.ingest.dialect import Request
from stream.ingest.http_signature import SignatureError, Verifier, parse
from stream.protocol.parsing import Query
from stream.server.access.auth import Authenticator
from stream.server.access.credentials import authorization
from stream.server.access.gate import Busy, Refusal
from stream.server.endpoints.producers import produce, sessions_busy
from stream.server.endpoints.router import Accepted, Route
from stream.services import Services
from stream.sessions.registry import SessionRegistry
from stream.telemetry.metrics import Metrics
from stream.tenants import Principal

log = logging.getLogger(__name__)

PATH = "/v1/audiohook"


def paths(config: Config) -> frozenset[str]:
    """Return the path of the endpoint if it is enabled."""
    return frozenset({PATH} if "audiohook" in config.telephony.dialects else ())


def routes(
    services: Services, sessions: SessionRegistry, authenticator: Authenticator
) -> Mapping[str, Route]:
    """Return the route of the endpoint if it is enabled."""
    config = services.config

    def serve(accepted: Accepted) -> Handler:
        connection = accepted.connection
        connection.keep_alive()
        request = Request(accepted.path, {}, accepted.headers, connection.peer)
        dialect = AudioHook(request, config.telephony)
        return produce(connection, dialect, services, sessions, accepted.principal)

    def busy(query: Query, principal: Principal) -> Busy | None:
        return sessions_busy(sessions, principal)

    keys = AudioHookKeys(config.telephony, authenticator, services.metrics)
    route = Route("stream", busy, serve, config.limits.max_message_bytes, kept=False, identify=keys)
    return dict.fromkeys(paths(config), route)


class AudioHookKeys:
    """Returns the key of a request as an Authorization header, once its signature is checked.

    `clock` returns seconds since 1970.
    """

    def __init__(
        self,
        config: TelephonyConfig,
        authenticator: Authenticator,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._clock = clock
        self._authority = _authority(config.public_url)
        self._secrets = {
            name: base64.b64decode(secret.get_secret_value())
            for name, secret in config.audiohook_secrets.items()
        }
        self._verifier = Verifier()

    def __call__(self, request: HttpRequest, query: Query, rest: str) -> Sequence[str]:
        """Return the Authorization header to check. Raises `Refusal` for a bad signature."""
        given = authorization(request.headers, query, rest)
        key = self._authenticator.key(given[0]) if given else None
        # However the key came: one that has a secret must not be of use without it.
        if key is not None and (secret := self._secrets.get(key.name)) is not None:
            try:
                self._verify(request, secret)
            except SignatureError as error:
                self._metrics.refused("unauthorized")
                log.warning("signature refused", extra={"key": key.name, "why": str(error)})
                raise Refusal(HTTPStatus.UNAUTHORIZED, f"unauthorized: {error}") from None
        return given

    def _verify(self, request: HttpRequest, secret: bytes) -> None:
        headers = request.headers
        inputs, signatures = headers.get_all("Signature-Input"), headers.get_all("Signature")
        if not inputs and not signatures:
            raise SignatureError("this key needs a signed request; enter the client secret")
        if len(inputs) != 1 or len(signatures) != 1:
            raise SignatureError("Signature-Input and Signature must come once each")

        def lookup(name: str) -> str | None:
            if name == "@request-target":
                return request.path
            if name == "@authority":
                return self._authority or _authority(f"//{_single(headers, 'Host') or ''}")
            return _single(headers, name)

        signature = parse(inputs[0], signatures[0])
        api_key = _single(headers, "X-API-KEY") or ""
        self._verifier.verify(signature, lookup, api_key, secret, self._clock())


def _single(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else None


def _authority(url: str) -> str:
    """Return host and port of a URL in lower case, without the default port of HTTP."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    netloc = parts.netloc.lower()
    ports = {"ws": (":80",), "wss": (":443",)}.get(parts.scheme, (":80", ":443"))
    for port in ports:
        netloc = netloc.removesuffix(port)
    return netloc
