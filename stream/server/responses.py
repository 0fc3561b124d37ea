"""HTTP responses with the security headers that every response carries."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from websockets.datastructures import Headers
from websockets.http11 import Response

# 'self' includes the page's own WebSockets (CSP level 3).
POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": POLICY,
}


def respond(status: HTTPStatus, body: bytes, media_type: str) -> Response:
    """Return a response with the headers that every response carries."""
    headers = Headers({"Content-Type": media_type, "Content-Length": str(len(body)), **SECURITY})
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)


def refuse(status: HTTPStatus, message: str, retry_after_s: int | None = None) -> Response:
    """Return an error response with a JSON body, and with Retry-After if that is given."""
    response = respond_json(status, {"error": message})
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def respond_text(status: HTTPStatus, content: str) -> Response:
    """Return a plain text response."""
    return respond(status, content.encode(), "text/plain; charset=utf-8")


def unauthorized(reason: str) -> Response:
    """Return 401 for a missing or unknown key, or 403 if `reason` begins with "forbidden"."""
    forbidden = reason.startswith("forbidden")
    response = refuse(HTTPStatus.FORBIDDEN if forbidden else HTTPStatus.UNAUTHORIZED, reason)
    if not forbidden:
        response.headers["WWW-Authenticate"] = 'Bearer realm="emotide"'
    return response


def respond_json(status: HTTPStatus, document: Any) -> Response:
    """Return a JSON document that must not be cached."""
    response = respond(status, orjson.dumps(document), "application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
