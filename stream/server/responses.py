"""Responses: the headers that every one carries, JSON documents, errors."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

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

JSON = "application/json"


class Json(Response):
    """A JSON document that must not be cached."""

    media_type = JSON

    def __init__(
        self,
        content: Any,
        status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(content, status, {"Cache-Control": "no-store", **(headers or {})})

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def common_headers() -> list[tuple[bytes, bytes]]:
    """Return the headers of every HTTP response, as ASGI has them."""
    headers = {**SECURITY, "Date": formatdate(usegmt=True)}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def error_body(message: str) -> bytes:
    """Return the body of a response that reports an error."""
    return orjson.dumps({"error": message})
