"""Downloads of results over HTTP: sent in pieces, with ranges, with a limit on their number."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream.recordings.store import ResultStore, StoredResult
from stream.server.responses import refuse, respond

RESULTS = "/v1/results/"
PIECE = 256 * 1024
STALL_S = 30.0
"""A download whose client accepts no data for this many seconds is closed."""

TYPES = {".npy": "application/octet-stream", ".csv": "text/csv; charset=utf-8", ".wav": "audio/wav"}


@dataclass
class Sent(Response):
    """Response that was already written to the transport; `websockets` only closes after it."""

    def serialize(self) -> bytes:
        return b""


class BadRange(ValueError):
    """Range outside the file."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse a Range header into a half-open range; None for the whole file (RFC 9110, 14.2).

    A request for several ranges gets the whole file, which is allowed. Raises `BadRange`.
    """
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header or "")
    if match is None or match[0].strip().endswith("=-"):
        return None
    first, last = match[1], match[2]
    if not first and not last:
        return None
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or (not first and int(last) == 0):
        raise BadRange
    return start, end


class Downloads:
    """Answers GET and HEAD of `/v1/results/{id}/{name}`."""

    def __init__(self, store: ResultStore, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._active = 0

    async def answer(self, socket: ServerConnection, request: Request, key_name: str) -> Response:
        """Return the response to a request with the key of that name.

        A long file has been sent when this returns. Results of other keys are 404.
        """
        if request.method not in ("GET", "HEAD"):
            response = refuse(HTTPStatus.METHOD_NOT_ALLOWED, "method not allowed; use GET or HEAD")
            response.headers["Allow"] = "GET, HEAD"
            return response
        path = unquote(request.path.partition("?")[0]).removeprefix(RESULTS)
        result_id, _, name = path.partition("/")
        stored = self._store.find(result_id, name)
        if stored is None or stored[0].owner not in ("", key_name):
            return refuse(HTTPStatus.NOT_FOUND, "unknown or expired result")
        if self._active >= self._limit:
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded: files.max_downloads", 2)
        self._active += 1
        try:
            return await self._serve(socket, request, *stored)
        finally:
            self._active -= 1

    async def _serve(
        self, socket: ServerConnection, request: Request, result: StoredResult, path: Path
    ) -> Response:
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except OSError:
            return refuse(HTTPStatus.NOT_FOUND, "unknown or expired result")
        with file:
            size = os.fstat(file.fileno()).st_size
            try:
                part = byte_range(request.headers.get("Range"), size)
            except BadRange:
                response = refuse(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range outside the file"
                )
                response.headers["Content-Range"] = f"bytes */{size}"
                return response
            start, end = part or (0, size)
            status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
            response = respond(status, b"", _media_type(path.name))
            headers = response.headers
            del headers["Content-Length"]
            headers["Content-Length"] = str(end - start)
            headers["Accept-Ranges"] = "bytes"
            headers["Cache-Control"] = "private, no-store"
            headers["Content-Disposition"] = disposition(result.title, path.name)
            if part is not None:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            if request.method == "HEAD":
                return response
            if end - start <= PIECE:
                response.body = await asyncio.to_thread(_read, file, start, end - start)
                return response
            return await _stream(socket, response, file, start, end)


async def _stream(
    socket: ServerConnection, response: Response, file: BinaryIO, start: int, end: int
) -> Response:
    """Send headers and body piece by piece, no faster than the client reads them."""
    sent = Sent(response.status_code, response.reason_phrase, response.headers)
    transport = socket.transport
    transport.write(response.serialize())
    at = start
    try:
        while at < end:
            if transport.is_closing():
                return sent
            piece = await asyncio.to_thread(_read, file, at, min(PIECE, end - at))
            if not piece:
                break  # the file became shorter than Content-Length, so abort below
            transport.write(piece)
            at += len(piece)
            async with asyncio.timeout(STALL_S):
                await socket.drain()
    except (TimeoutError, OSError):
        at = start
    if at < end:
        transport.abort()
    return sent


def disposition(title: str, name: str) -> str:
    """Return a Content-Disposition header: `title_name`, in ASCII and in UTF-8 (RFC 6266)."""
    filename = f"{title}_{name}"
    plain = filename.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _media_type(name: str) -> str:
    known = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    return known or "application/octet-stream"


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
