"""Address, TLS and key of a server; the meaning of failed and closed connections."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from client.remote.backoff import RETRY_CODES, RETRY_STATUS
from client.remote.errors import Broken, NoServer, Refused
from stream.protocol.version import SUBPROTOCOL
from stream.protocol.wire.notices import ErrorBody

DEFAULT_URL = "ws://127.0.0.1:8765"
STREAM, SUBSCRIBE = "/v1/stream", "/v1/subscribe"
MAX_MESSAGE = 16 * 1024 * 1024
"""Largest message from the server, in bytes: a snapshot of many streams is one message."""

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and credentials of a server.

    `url` is ws:// or wss:// with a host, a port and, behind a proxy, a path. `ca_file` is the PEM
    file of the authority that signed the server's certificate; `tls` is a complete context and
    replaces it.
    """

    url: str = DEFAULT_URL
    api_key: str | None = None
    ca_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def address(self, path: str, query: Iterable[tuple[str, str]] = ()) -> str:
        """Return the full URL of `path`. Raises ValueError for an invalid address."""
        parts = urlsplit(self.url if "://" in self.url else f"ws://{self.url}")
        scheme = _SCHEMES.get(parts.scheme)
        if scheme is None or not parts.hostname:
            raise ValueError(f"{self.url!r} is not an address like {DEFAULT_URL}")
        base = parts.path.rstrip("/").removesuffix(STREAM).removesuffix(SUBSCRIBE)
        return urlunsplit((scheme, parts.netloc, base + path, urlencode(list(query)), ""))

    async def connect(self, path: str, query: Iterable[tuple[str, str]] = ()) -> ClientConnection:
        """Open a WebSocket.

        Raises `NoServer` without a response, `Broken` for a temporary failure, else `Refused`.
        """
        address = self.address(path, query)
        parts = urlsplit(address)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else None
        options: dict[str, Any] = {"ssl": self._context()} if parts.scheme == "wss" else {}
        try:
            return await open_websocket(
                address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers=headers,
                compression=None,  # audio does not compress, and scores are small
                proxy=None if parts.hostname in _LOOPBACK else True,
                max_size=MAX_MESSAGE,
                close_timeout=3,
                **options,
            )
        except InvalidStatus as error:
            raise _response_error(error.response) from None
        except ssl.SSLCertVerificationError as error:
            remedy = "pass the certificate of its authority as ca_file"
            text = f"the certificate of {parts.netloc} is not trusted: {error.verify_message}"
            raise Refused(1015, "tls", f"{text}; {remedy}") from None
        except (OSError, WebSocketException) as error:
            why = str(error) or type(error).__name__
            raise NoServer(f"no server answers at {parts.netloc}: {why}") from None

    def _context(self) -> ssl.SSLContext:
        try:
            return self.tls or ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            text = f"{self.ca_file} is not a PEM certificate: {error}"
            raise Refused(1015, "tls", text) from None


def closed_error(closed: ConnectionClosed, error: ErrorBody | None = None) -> Broken | Refused:
    """Return the exception for a closed connection.

    `error` is the fatal `error` event that preceded the close, if any.
    """
    code = closed.rcvd.code if closed.rcvd else 1006
    reason = closed.rcvd.reason if closed.rcvd else ""
    message = reason or f"connection closed with code {code}"
    retry_after = 0.0
    if error is not None:
        reason, message = error["code"], error["message"]
        retry_after = float(error.get("retry_after_s") or 0.0)
    if code in RETRY_CODES:
        return Broken(message, retry_after)
    return Refused(code, reason, message)


def _response_error(response: Response) -> Broken | Refused:
    """Return the exception for an HTTP response that refuses the upgrade."""
    status = response.status_code
    message = f"HTTP {status} {response.reason_phrase}"
    with suppress(ValueError, TypeError, KeyError):
        message = str(orjson.loads(response.body)["error"])
    if status in RETRY_STATUS:
        retry_after = response.headers.get("Retry-After", "")
        return Broken(message, float(retry_after) if retry_after.isdecimal() else 0.0)
    return Refused(4000 + status, f"http_{status}", message)
