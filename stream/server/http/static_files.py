"""Files over HTTP: the page, the contracts, the results of recordings."""

from __future__ import annotations

import asyncio
import os
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Receive, Scope, Send

from stream.recordings.store import ResultStore
from stream.server.access.gate import Refusal
from stream.server.http.requests import Endpoint, principal_of

SITE = Path(__file__).resolve().parents[3]
WEB = SITE / "client" / "web"
CONTRACTS = {
    "/asyncapi.yaml": SITE / "stream" / "protocol" / "asyncapi.yaml",
    "/openapi.json": SITE / "stream" / "protocol" / "openapi.json",
    "/result.schema.json": SITE / "stream" / "recordings" / "result.schema.json",
}
CLIENT = WEB / "emotide.js"
"""The client for pages of other origins, at /client.js; its worklet is beside it."""

TYPES = {
    ".css": "text/css",
    ".csv": "text/csv",
    ".flac": "audio/flac",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/plain",  # a browser would save text/markdown
    ".npy": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".yaml": "application/yaml",
}
"""Media types by suffix; the system's own table differs between machines."""

SCHEMA_TYPE = "application/schema+json"


class SentFile(FileResponse):
    """A file, whole or in ranges. An invalid Range header is ignored, as RFC 9110 demands."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not valid_range(Headers(scope=scope).get("range", "")):
            headers = [item for item in scope["headers"] if item[0] != b"range"]
            scope = {**scope, "headers": headers}
        await super().__call__(scope, receive, send)


class Page(StaticFiles):
    """The files of the page; browsers ask at every load whether they have changed."""

    def get_path(self, scope: Scope) -> str:
        """Return the path of a file; refuse a second address of the same file."""
        path = super().get_path(scope)
        if scope["path"] not in ("/", "/" + path):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return path

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = _revalidated(Path(full_path), stat_result)
        headers = Headers(scope=scope)
        if self.is_not_modified(response.headers, headers):
            return NotModifiedResponse(response.headers)
        return response


# The page has links to files in docs/.
PAGE = Page(directory=WEB, html=True, follow_symlink=True)


def fixed_file(path: Path) -> Endpoint:
    """Return the endpoint of a file at an address of its own."""

    async def respond(request: Request) -> Response:
        found = await asyncio.to_thread(path.stat)
        return PAGE.file_response(path, found, request.scope)

    return respond


class Downloads:
    """Files of results; at most `limit` are sent at a time."""

    def __init__(self, store: ResultStore, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._active = 0

    async def respond(self, request: Request) -> Response:
        """Send a file of a result to the key that sent the recording."""
        name = request.path_params["name"]
        found = self._store.find(request.path_params["result_id"], name)
        unknown = Refusal(HTTPStatus.NOT_FOUND, "unknown or expired result")
        if found is None or not principal_of(request).owns(found[0].owner):
            raise unknown
        stored, path = found
        try:
            size = await asyncio.to_thread(path.stat)
        except OSError:
            raise unknown from None
        if self._active >= self._limit:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded: files.max_downloads", 2)
        headers = {
            "Cache-Control": "private, no-store",
            "Content-Disposition": disposition(stored.title, name),
        }
        return _Download(
            self, path, headers=headers, media_type=TYPES.get(path.suffix), stat_result=size
        )


class _Download(SentFile):
    """A file of a result, counted while it is sent."""

    def __init__(self, downloads: Downloads, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._downloads = downloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._downloads._active += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._downloads._active -= 1


def valid_range(header: str) -> bool:
    """Return whether a Range header is one that a server has to obey (RFC 9110, 14.1.1)."""
    unit, _, ranges = header.partition("=")
    return unit.strip().lower() == "bytes" and all(map(_valid_part, ranges.split(",")))


def _valid_part(part: str) -> bool:
    match = re.fullmatch(r"\s*(\d{0,18})-(\d{0,18})\s*", part)
    if match is None or not (match[1] or match[2]):
        return False
    return not (match[1] and match[2]) or int(match[1]) <= int(match[2])


def disposition(title: str, name: str) -> str:
    """Return a Content-Disposition header: `title_name`, in ASCII and in UTF-8 (RFC 6266)."""
    filename = f"{title}_{name}"
    plain = filename.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _revalidated(path: Path, stat_result: os.stat_result) -> SentFile:
    schema = path.name.endswith(".schema.json")
    return SentFile(
        path,
        media_type=SCHEMA_TYPE if schema else TYPES.get(path.suffix),
        stat_result=stat_result,
        headers={"Cache-Control": "no-cache"},
    )
