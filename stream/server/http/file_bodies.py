"""Bodies of requests that send a recording: a form, or the bytes of the file alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request

from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.file_requests import MAX_NAME, FileQuery, parse_options
from stream.recordings.background import Reception
from stream.recordings.services import RecordingServices
from stream.recordings.upload import check_size, too_large
from stream.server.access.gate import Refusal
from stream.server.http.multipart import (
    MEDIA_TYPE,
    PIECE,
    Form,
    FormError,
    FormEvent,
    PartBegan,
    PartEnded,
    is_form,
)

FORM_BYTES = 65_536
"""Bytes of a form besides its file: boundaries, headers, options."""

OPTIONS_BYTES = 16_384
"""Largest part `options`."""

NAME = "recording"
"""Name of a recording whose client gives none."""


class Disconnected(Exception):
    """The client has closed the connection, so nothing reads a response."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request, with bounds on its size and on the time between its pieces.

    `meter` counts bytes against a quota, and returns the seconds to wait before the next are read.
    """

    request: Request
    max_mb: float
    idle_s: float
    whole_s: float
    """Seconds in which the whole body must arrive."""
    meter: Callable[[int], float]

    @property
    def content_type(self) -> str:
        return self.request.headers.get("content-type", "")

    @property
    def size(self) -> int | None:
        """The announced size in bytes; None if it is sent in chunks."""
        size = self.request.headers.get("content-length")
        if size is None:
            return None if "transfer-encoding" in self.request.headers else 0
        return int(size)

    async def pieces(self, more: int = 0) -> AsyncIterator[bytes]:
        """Yield the body, which may have `more` bytes than a file.

        Raises `ProtocolError` for a body that is too large, stalls or is late, and `Disconnected`.
        """
        received, unfinished = 0, True
        end = time.monotonic() + self.whole_s
        while unfinished:
            if time.monotonic() > end:
                raise ProtocolError(
                    "idle_timeout",
                    f"the recording did not arrive in {self.whole_s:g} s; compress it or cut it",
                )
            try:
                async with asyncio.timeout(self.idle_s):
                    message = await self.request.receive()
            except TimeoutError:
                raise ProtocolError(
                    "idle_timeout", f"no data for {self.idle_s:g} s; send the recording again"
                ) from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            data, unfinished = message.get("body", b""), message.get("more_body", False)
            received += len(data)
            if (wait_s := self.meter(len(data))) > 0:
                await asyncio.sleep(wait_s)
            if received > self.max_mb * 1e6 + more:
                raise too_large(received, self.max_mb)
            yield data


async def receive(
    body: RequestBody, query: FileQuery, reception: Reception, services: RecordingServices
) -> FileOptions:
    """Write the recording in a request's body to disk; return its options.

    The options are admitted before the file is read; a part `options` after the file is admitted
    then. Raises `ProtocolError`, `Refusal` and `Disconnected`.
    """
    if is_form(body.content_type):
        return await _receive_form(body, _FormReader(query, reception, services))
    if body.content_type.lower().startswith("multipart/"):
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type: send {MEDIA_TYPE}, or the bytes of the file with any other type",
        )
    options = query.options
    services.admit(options)
    await reception.open(query.name or NAME, body.size)
    async for data in body.pieces():
        await reception.write(data)
    reception.check_complete()
    return options


async def _receive_form(body: RequestBody, reader: _FormReader) -> FileOptions:
    if body.size is not None and body.size > FORM_BYTES:
        check_size(body.size - FORM_BYTES, body.max_mb)
    try:
        form = Form(body.content_type, ["file"], ["options"])
        async for data in body.pieces(FORM_BYTES):
            for at in range(0, len(data), PIECE):
                for event in form.feed(data[at : at + PIECE]):
                    await reader.handle(event)
                # A piece without content of the file has not let other tasks run yet.
                await asyncio.sleep(0)
        form.end()
    except FormError as error:
        raise ProtocolError("invalid_message", str(error)) from None
    return reader.end()


class _FormReader:
    """Writes the part `file` of a form to disk, and parses its part `options`."""

    def __init__(self, query: FileQuery, reception: Reception, services: RecordingServices) -> None:
        self._query = query
        self._reception = reception
        self._services = services
        self._options = query.options
        self._given = bool(query.given())
        """True if the client has sent options; otherwise they may follow the file."""
        self._text: bytes | None = None
        """Content of the part `options` while it is received."""

    async def handle(self, event: FormEvent) -> None:
        """Handle the next event. Raises `ProtocolError` and `FormError`."""
        match event:
            case PartBegan(name="file", filename=filename):
                self._admit()
                await self._reception.open(self._query.name or _checked(filename), None)
            case PartBegan():
                self._text = b""
            case PartEnded() if self._text is not None:
                self._options = parse_options(self._text, self._query)
                self._given, self._text = True, None
            case PartEnded():
                pass
            case content if self._text is None:
                await self._reception.write(content)
            case content:
                self._text += content
                if len(self._text) > OPTIONS_BYTES:
                    raise FormError(f"the part options has more than {OPTIONS_BYTES} bytes")

    def end(self) -> FileOptions:
        """Check the complete form; return its options. Raises `ProtocolError`."""
        self._reception.check_complete()
        self._services.admit(self._options)
        return self._options

    def _admit(self) -> None:
        """Admit the options before the file is read."""
        try:
            self._services.admit(self._options)
        except ProtocolError as error:
            if not self._given:
                error.message += "; the part options has to come before the part file"
            raise


def _checked(filename: str) -> str:
    if len(filename) > MAX_NAME:
        raise FormError(f"the filename has more than {MAX_NAME} characters; shorten it")
    return filename or NAME
