"""Plain HTTP responses: page, health, metrics, streams, contract."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.delivery.live_stream import LiveStream
from stream.server.responses import respond, respond_json, respond_text

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "client" / "web"
CONTRACT = ROOT / "stream" / "protocol" / "asyncapi.yaml"
RESULT_SCHEMA = ROOT / "stream" / "recordings" / "result.schema.json"
QUESTIONS = WEB / "questions.md"

JsonSource = Callable[[], tuple[HTTPStatus, Any]]
"""Returns the status and the JSON document of a path."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _load(folder: Path) -> dict[str, _File]:
    """Read all files of the page, by URL path; the page is small enough for memory."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            if media_type.startswith("text/") or media_type.endswith("javascript"):
                media_type += "; charset=utf-8"
            name = "/" + path.relative_to(folder).as_posix()
            files[name] = _File(content, media_type, _etag(content))
    if "/index.html" in files:
        files["/"] = files["/index.html"]
    return files


class Pages:
    """Answers plain HTTP requests; unknown paths are 404.

    `documents` maps a path to the source of its JSON. `stream` returns a live stream by its id.
    `metrics` returns the text of `/metrics`.
    """

    def __init__(
        self,
        documents: Mapping[str, JsonSource],
        stream: Callable[[str], LiveStream | None],
        metrics: Callable[[], bytes],
    ) -> None:
        self._documents = documents
        self._stream = stream
        self._metrics = metrics
        self._files = _load(WEB)
        for path, media_type in (
            (CONTRACT, "application/yaml"),
            (RESULT_SCHEMA, "application/schema+json"),
            # As plain text, so that a browser displays it instead of saving it.
            (QUESTIONS, "text/plain; charset=utf-8"),
        ):
            if path.is_file():
                content = path.read_bytes()
                self._files[f"/{path.name}"] = _File(content, media_type, _etag(content))

    def answer(self, request: Request) -> Response:
        """Return the response to a GET or HEAD; other methods are 405."""
        method = request.method
        if method not in ("GET", "HEAD"):
            response = respond_text(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not allowed; use GET or HEAD\n"
            )
            response.headers["Allow"] = "GET, HEAD"
            return response
        response = self._get(request.path.partition("?")[0], request.headers)
        if method == "HEAD":
            response.body = b""
        return response

    def _get(self, path: str, headers: Headers) -> Response:
        if path == "/healthz":
            return respond_text(HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            media_type = "text/plain; version=0.0.4; charset=utf-8"
            return respond(HTTPStatus.OK, self._metrics(), media_type)
        if path in self._documents:
            status, document = self._documents[path]()
            return respond_json(status, document)
        if path.startswith("/v1/streams/"):
            name, _, part = unquote(path.removeprefix("/v1/streams/")).partition("/")
            stream = self._stream(name) if part in ("", "frames") else None
            if stream is None:
                return respond_json(HTTPStatus.NOT_FOUND, {"error": "unknown or ended stream"})
            body = {"channels": stream.frames()} if part else stream.snapshot()
            return respond_json(HTTPStatus.OK, body)
        file = self._files.get(path)
        if file is None:
            return respond_text(HTTPStatus.NOT_FOUND, "not found\n")
        if headers.get("If-None-Match") == file.etag:
            response = respond(HTTPStatus.NOT_MODIFIED, b"", file.media_type)
            del response.headers["Content-Length"]
        else:
            response = respond(HTTPStatus.OK, file.content, file.media_type)
        response.headers["ETag"] = file.etag
        response.headers["Cache-Control"] = "no-cache"
        return response
