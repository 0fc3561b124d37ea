"""The GET side of the port: page, health, metrics, streams, contract."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.delivery.live_stream import LiveStream

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "client" / "web"
CONTRACT = ROOT / "docs" / "asyncapi.yaml"
RESULT_SCHEMA = ROOT / "docs" / "result.schema.json"
QUESTIONS = ROOT / "docs" / "questions.md"

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

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

Json = Callable[[], tuple[HTTPStatus, Any]]


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    etag: str


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _load(folder: Path) -> dict[str, _File]:
    """Every file of the page, by its path; read once, a page is small."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            if kind.startswith("text/") or kind.endswith("javascript"):
                kind += "; charset=utf-8"
            name = "/" + path.relative_to(folder).as_posix()
            files[name] = _File(content, kind, _etag(content))
    if "/index.html" in files:
        files["/"] = files["/index.html"]
    return files


class Pages:
    """Answers plain HTTP requests; what it does not know is 404.

    `documents` maps a path to what makes its JSON; `stream` looks a live stream up by its id.
    """

    def __init__(
        self,
        documents: Mapping[str, Json],
        stream: Callable[[str], LiveStream | None],
        metrics: Callable[[], bytes],
    ) -> None:
        self._documents = documents
        self._stream = stream
        self._metrics = metrics
        self._files = _load(WEB)
        for path, kind in (
            (CONTRACT, "application/yaml"),
            (RESULT_SCHEMA, "application/schema+json"),
            # As text, so that a browser shows it instead of saving it.
            (QUESTIONS, "text/plain; charset=utf-8"),
        ):
            if path.is_file():
                content = path.read_bytes()
                self._files[f"/{path.name}"] = _File(content, kind, _etag(content))

    def answer(self, request: Request) -> Response:
        """The response to a GET or HEAD; other methods are refused."""
        method = request.method
        if method not in ("GET", "HEAD"):
            response = _text(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not offered here\n")
            response.headers["Allow"] = "GET, HEAD"
            return response
        response = self._get(request.path.partition("?")[0], request.headers)
        if method == "HEAD":
            response.body = b""
        return response

    def _get(self, path: str, headers: Headers) -> Response:
        if path == "/healthz":
            return _text(HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            kind = "text/plain; version=0.0.4; charset=utf-8"
            return respond(HTTPStatus.OK, self._metrics(), kind)
        if path in self._documents:
            status, document = self._documents[path]()
            return answer(status, document)
        if path.startswith("/v1/streams/"):
            name, _, part = unquote(path.removeprefix("/v1/streams/")).partition("/")
            stream = self._stream(name) if part in ("", "frames") else None
            if stream is None:
                return answer(HTTPStatus.NOT_FOUND, {"error": "no such stream is live"})
            body = {"channels": stream.frames()} if part else stream.snapshot()
            return answer(HTTPStatus.OK, body)
        file = self._files.get(path)
        if file is None:
            return _text(HTTPStatus.NOT_FOUND, "not found\n")
        if headers.get("If-None-Match") == file.etag:
            response = respond(HTTPStatus.NOT_MODIFIED, b"", file.kind)
            del response.headers["Content-Length"]
        else:
            response = respond(HTTPStatus.OK, file.content, file.kind)
        response.headers["ETag"] = file.etag
        response.headers["Cache-Control"] = "no-cache"
        return response


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


def _text(status: HTTPStatus, text: str) -> Response:
    return respond(status, text.encode(), "text/plain; charset=utf-8")


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


def known_host(host: str, allowed: tuple[str, ...], local: bool) -> bool:
    """Whether a request may call this server `host`.

    A `local` server is reached by any name that somebody points at this machine (DNS rebinding),
    so there it answers only to names that nobody else can own, and to those of `allowed` origins.
    """
    try:
        ours = urlsplit(f"//{host}").hostname in LOCAL_NAMES
        return not local or ours or any(urlsplit(origin).netloc == host for origin in allowed)
    except ValueError:
        return False


def same_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a browser at `origin` may connect to us at `host`: our own page, or one allowed."""
    try:
        return origin in allowed or urlsplit(origin).netloc == host
    except ValueError:
        return False
