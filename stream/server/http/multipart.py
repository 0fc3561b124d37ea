"""Streaming parser of multipart/form-data (RFC 7578) with bounds on parts and headers. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

MEDIA_TYPE = "multipart/form-data"

PIECE = 65_536
"""Bytes that are parsed at a time: a few milliseconds of work in the worst case."""


class FormError(ValueError):
    """A body that is not a valid form; the text is for the client."""


@dataclass(frozen=True, slots=True)
class PartBegan:
    """The headers of a part; `filename` is empty if there is none."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The end of the current part."""


FormEvent = PartBegan | bytes | PartEnded
"""Bytes are content of the current part."""


def is_form(content_type: str) -> bool:
    """Return whether a Content-Type header announces a form."""
    # A header may hold any bytes.
    return parse_options_header(content_type)[0].decode("latin-1") == MEDIA_TYPE


class Form:
    """Parser of one body, which holds no content.

    It accepts each of the parts `required` and `optional` once, and no others. A header has at most
    4 kB, a part 8 headers. Raises `FormError`.
    """

    def __init__(
        self, content_type: str, required: Collection[str], optional: Collection[str] = ()
    ) -> None:
        self._required = required
        self._names = [*required, *optional]
        self._seen: set[str] = set()
        self._events: list[FormEvent] = []
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise FormError(
                "the Content-Type multipart/form-data has no boundary; let the HTTP library set it"
            )
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_end,
                    "on_end": self._on_close,
                },
            )
        except FormParserError as error:
            raise FormError(f"malformed multipart/form-data: {error}") from None

    def feed(self, data: bytes) -> list[FormEvent]:
        """Return the events in the next bytes of the body; at most `PIECE` bytes at a time."""
        padding = self._parser.state is MultipartState.BOUNDARY_PADDING
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise FormError(f"malformed multipart/form-data: {error}") from None
        if padding and self._parser.state is MultipartState.BOUNDARY_PADDING:
            # It is valid, but no client sends it, and the parser takes it byte by byte.
            raise FormError("malformed multipart/form-data: too many spaces behind a boundary")
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """Refuse a body that ended too early, or that lacks a part."""
        if not self._complete:
            raise FormError("the form is incomplete: its last boundary is missing; send it again")
        for name in self._required:
            if name not in self._seen:
                raise FormError(
                    f"the form has no part named {name}; send it like curl -F {name}=@call.wav"
                )

    def _begin(self) -> None:
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        disposition, parameters = parse_options_header(
            self._headers.get(b"content-disposition", b"")
        )
        if disposition != b"form-data" or not parameters.get(b"name"):
            raise FormError("a part of the form has no name in its Content-Disposition header")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise FormError("Content-Transfer-Encoding must be binary; send the bytes as they are")
        name = parameters[b"name"].decode("utf-8", "replace")
        if name not in self._names:
            known = " and ".join(self._names)
            raise FormError(f"unknown part {name[:64]!r} in the form; known are {known}")
        if name in self._seen:
            raise FormError(f"the form has two parts named {name}; send one")
        self._seen.add(name)
        filename = parameters.get(b"filename", b"").decode("utf-8", "replace")
        self._events.append(PartBegan(name, filename))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._events.append(PartEnded())

    def _on_close(self) -> None:
        self._complete = True
