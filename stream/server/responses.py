"""HTTP responses with the headers that every answer carries."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from websockets.datastructures import Headers
from websockets.http11 import Response

# 'self' is the page's own WebSockets too (CSP level 3).
POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": POLICY,
}


def respond(status: HTTPStatus, body: bytes, kind: str) -> Response:
    """A response with the headers that every answer carries."""
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), **SECURITY})
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)


def refuse(status: HTTPStatus, message: str, retry_after_s: int | None = None) -> Response:
    """An upgrade that does not happen, and why."""
    response = answer(status, {"error": message})
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def text(status: HTTPStatus, content: str) -> Response:
    return respond(status, content.encode(), "text/plain; charset=utf-8")


def unauthorized(why: str) -> Response:
    """A request whose key opens nothing here (401), or not this (403)."""
    forbidden = why.startswith("forbidden")
    response = refuse(HTTPStatus.FORBIDDEN if forbidden else HTTPStatus.UNAUTHORIZED, why)
    if not forbidden:
        response.headers["WWW-Authenticate"] = 'Bearer realm="emotide"'
    return response


def answer(status: HTTPStatus, document: Any) -> Response:
    """A JSON document that must not be kept."""
    response = respond(status, orjson.dumps(document), "application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
