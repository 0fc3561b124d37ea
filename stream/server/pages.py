"""The GET side of the port: page, health, metrics, streams, contract."""

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
from stream.server.responses import answer, respond, text

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "client" / "web"
CONTRACT = ROOT / "stream" / "protocol" / "asyncapi.yaml"
RESULT_SCHEMA = ROOT / "stream" / "recordings" / "result.schema.json"
QUESTIONS = WEB / "questions.md"

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
            response = text(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not offered here\n")
            response.headers["Allow"] = "GET, HEAD"
            return response
        response = self._get(request.path.partition("?")[0], request.headers)
        if method == "HEAD":
            response.body = b""
        return response

    def _get(self, path: str, headers: Headers) -> Response:
        if path == "/healthz":
            return text(HTTPStatus.OK, "ok\n")
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
            return text(HTTPStatus.NOT_FOUND, "not found\n")
        if headers.get("If-None-Match") == file.etag:
            response = respond(HTTPStatus.NOT_MODIFIED, b"", file.kind)
            del response.headers["Content-Length"]
        else:
            response = respond(HTTPStatus.OK, file.content, file.kind)
        response.headers["ETag"] = file.etag
        response.headers["Cache-Control"] = "no-cache"
        return response
