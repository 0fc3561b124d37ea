"""Results over HTTP, of any length: sent in pieces, with ranges, a bounded number at a time."""

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
"""A reader that takes no piece for this long is let go."""

KINDS = {".npy": "application/octet-stream", ".csv": "text/csv; charset=utf-8", ".wav": "audio/wav"}


@dataclass
class Sent(Response):
    """A response that is on its way already; only the end of the connection is left to do."""

    def serialize(self) -> bytes:
        return b""


class BadRange(ValueError):
    """A range that the file does not have."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for; None for the whole (RFC 9110, 14.2).

    Of several ranges none is served, which is allowed. Raises `BadRange`.
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

    def __init__(self, store: ResultStore, most: int) -> None:
        self._store = store
        self._most = most
        self._now = 0

    async def answer(self, socket: ServerConnection, request: Request, key_name: str) -> Response:
        """The response to who holds the key of that name; long ones are sent when this returns.

        What another key sent is not there for this one.
        """
        if request.method not in ("GET", "HEAD"):
            response = refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are offered here")
            response.headers["Allow"] = "GET, HEAD"
            return response
        path = unquote(request.path.partition("?")[0]).removeprefix(RESULTS)
        result_id, _, name = path.partition("/")
        found = self._store.find(result_id, name)
        if found is None or found[0].owner not in ("", key_name):
            return refuse(HTTPStatus.NOT_FOUND, "no such result (any more)")
        if self._now >= self._most:
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded: files.max_downloads", 2)
        self._now += 1
        try:
            return await self._serve(socket, request, *found)
        finally:
            self._now -= 1

    async def _serve(
        self, socket: ServerConnection, request: Request, kept: StoredResult, path: Path
    ) -> Response:
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except OSError:
            return refuse(HTTPStatus.NOT_FOUND, "no such result (any more)")
        with file:
            size = os.fstat(file.fileno()).st_size
            try:
                part = byte_range(request.headers.get("Range"), size)
            except BadRange:
                response = refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no such range")
                response.headers["Content-Range"] = f"bytes */{size}"
                return response
            start, end = part or (0, size)
            status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
            response = respond(status, b"", _kind(path.name))
            headers = response.headers
            del headers["Content-Length"]
            headers["Content-Length"] = str(end - start)
            headers["Accept-Ranges"] = "bytes"
            headers["Cache-Control"] = "private, no-store"
            headers["Content-Disposition"] = disposition(kept.title, path.name)
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
    """Send head and body piece by piece, no faster than they are read."""
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
                break  # it became shorter: the length was promised, so the connection must break
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
    """A download's file name: what it is of, then what it is; in ASCII, and as it is (RFC 6266)."""
    whole = f"{title}_{name}"
    plain = whole.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(whole, safe='')}"


def _kind(name: str) -> str:
    found = KINDS.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    return found or "application/octet-stream"


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
