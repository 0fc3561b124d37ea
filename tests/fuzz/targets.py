"""Fuzz targets: each takes any bytes and raises only if a promise about foreign input is broken.

`python -m tests.fuzz` mutates their inputs, guided by the coverage of the code under test;
`test_fuzz.py` runs the inputs of `corpus/`. A target must be fast, deterministic and without I/O.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args
from urllib.parse import parse_qs

import numpy as np
import orjson
from starlette.responses import FileResponse

from client.remote.call import Call
from client.remote.call import stream as open_call
from client.remote.errors import Refused
from client.remote.reader import read_event
from client.remote.send_buffer import Skipped
from client.terminal.text import line
from stream.audio.codecs import PcmDecoder
from stream.audio.files import chunks, completeness, containers, header_only, tags
from stream.audio.files.views import View
from stream.audio.raw_format import FormatCheck, WrongFormat
from stream.config import TelephonyConfig
from stream.ingest.aliases import translate
from stream.ingest.asterisk import Asterisk
from stream.ingest.audiohook import AudioHook
from stream.ingest.audiosocket import AudioSocket
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Audio, Command, Dialect, End, Offer, Request, Resume, Start
from stream.ingest.emotide import Emotide
from stream.ingest.l16 import L16
from stream.ingest.speech_clients import SpeechClient
from stream.ingest.twilio import Twilio
from stream.protocol.errors import ProtocolError
from stream.protocol.file_requests import parse_file_query, parse_options, parse_wait
from stream.protocol.messages import SessionConfig
from stream.protocol.parsing import (
    overlay,
    parse_files,
    parse_flag,
    parse_producer,
    parse_query,
    parse_subscriber,
)
from stream.protocol.wire.codes import EventCode
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.websocket import WebSocketConnection
from stream.server.http.multipart import Form, FormError, FormEvent, is_form
from stream.server.http.static_files import valid_range
from stream.types import AudioFormat
from tests.support.toy_dialect import ToyDialect

Target = Callable[[bytes], None]
"""Runs one input; an exception is a finding."""


def messages(data: bytes) -> None:
    """Parse a TEXT message as each endpoint does: a message, or an error that can be sent."""
    text = data.decode("utf-8", "replace")
    for parse in (lambda t: parse_producer(t, translate), parse_subscriber, parse_files):
        try:
            message = parse(text)
        except ProtocolError as error:
            _check_error(error)
        else:
            orjson.dumps(message.model_dump(mode="json"))


def query(data: bytes) -> None:
    """Parse a URL's query as each endpoint does, and complete a session.update from it."""
    parsed = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True)
    readers: tuple[Callable[[Mapping[str, list[str]]], object], ...] = (
        parse_query,
        lambda q: parse_flag(q, "takeover"),
        lambda q: overlay(q, SessionConfig()),
        parse_file_query,
        parse_wait,
    )
    for read in readers:
        try:
            read(parsed)
        except ProtocolError as error:
            _check_error(error)


def options(data: bytes) -> None:
    """Parse the part `options` of a form, over a query that has options too."""
    try:
        found = parse_options(data, parse_file_query({"frames": ["true"], "roles": ["a,b"]}))
        orjson.dumps(found.model_dump(mode="json"))
    except ProtocolError as error:
        _check_error(error)


def _request(text: str) -> Request:
    return Request(query=parse_qs(text, keep_blank_values=True))


DIALECTS: Mapping[str, Callable[[str], Dialect]] = {
    "native": lambda text: Emotide(_request(text)),
    "toy": lambda text: ToyDialect(),
    "speech_client": lambda text: SpeechClient(_request(text), TelephonyConfig()),
    "audiohook": lambda text: AudioHook(Request(), TelephonyConfig(disclosed=text == "d")),
    "audiosocket": lambda text: AudioSocket(CallDefaults()),
    "asterisk": lambda text: Asterisk(_request(text), CallDefaults()),
    "twilio": lambda text: Twilio(_request(text), CallDefaults()),
    "l16": lambda text: L16(_request(text), CallDefaults()),
}
"""Every dialect, made from the text of a URL's query. A new one is added here."""


def dialects(data: bytes) -> None:
    """Run a connection in each dialect: its query, then messages, until an error is fatal.

    The first line is the query, the others are messages: TEXT, or BINARY after a NUL.
    """
    head, *lines = data.split(b"\n")
    for name, make in DIALECTS.items():
        dialect = make(head.decode("utf-8", "replace"))
        started = 0
        for commands in (dialect.connected, *map(_received, [dialect] * len(lines), lines)):
            try:
                for command in commands():
                    assert isinstance(command, Command)
                    started += isinstance(command, Start | Resume)
                    # `Producer` refuses it; the dialect of the product names the remedy.
                    assert started <= 1 or name == "toy", "a connection has one session"
                    assert started or name == "toy" or not isinstance(command, Audio)
                    assert not isinstance(command, Offer) or not started
                    if isinstance(command, End):
                        assert command.reason in get_args(EventCode)
            except ProtocolError as error:
                _check_error(error)
                assert dialect.close_code(error.code) >= 0
                if error.fatal:
                    break


def _received(dialect: Dialect, text: bytes) -> Callable[[], Iterator[Command]]:
    binary = text.startswith(b"\0") or isinstance(dialect, ToyDialect | AudioSocket)
    message = text.removeprefix(b"\0") if binary else text.decode("utf-8", "replace")
    return lambda: iter(dialect.receive(message))


def probing(data: bytes) -> None:
    """Probe a file as every container: no exception, and a bounded amount is read."""
    head = data[: containers.HEAD]
    kind = containers.kind_of(head)
    assert kind is None or kind in (*containers.MAGIC.values(), "MP4")
    file = _Counting(data)
    containers.is_protected(file, head)
    containers.flac_samples(head)
    header_only.is_header_only(head, len(data))
    for container in completeness.CHECKS:
        completeness.ends_early(file, len(data), container)
    completeness.joined_mp4(file, len(data))
    start = tags.start_of_sound(file)
    assert 0 <= start <= len(data)
    found = chunks.layout(file, len(data))
    if found is not None:
        assert found.missing >= 0
        assert found.left_out >= 0
        assert all(end <= len(data) for _, end in found.sound)
        view = View(file, found.sound, found.header or b"")
        assert len(view.read()) == view.size
    assert file.reads < 10_000 + 20 * len(data)


class _Counting(io.BytesIO):
    """File that counts its reads, because a header may point back at itself."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def multipart(data: bytes) -> None:
    """Parse a form: the first line is its Content-Type; any cut of the body gives the same."""
    first, _, body = data.partition(b"\n")
    content_type = first.decode("latin-1")
    is_form(content_type)
    whole = _form(content_type, [body])
    cut = len(first) % 7 + 1
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    in_pieces = _form(content_type, pieces)
    # python-multipart takes bytes before the first boundary or refuses them, depending on the cut.
    assert in_pieces == whole or ["refused"] in (in_pieces, whole)
    assert sum(len(part) for part in whole if isinstance(part, bytes)) <= len(body)


def _form(content_type: str, pieces: list[bytes]) -> list[FormEvent | str]:
    """Return the events of a form, its content joined, and how it ended."""
    events: list[FormEvent | str] = []
    try:
        form = Form(content_type, ("file",), ("options",))
        for piece in pieces:
            for event in form.feed(piece):
                last = events[-1] if events else None
                if isinstance(event, bytes) and isinstance(last, bytes):
                    events[-1] = last + event
                else:
                    events.append(event)
        form.end()
    except FormError as error:
        assert len(str(error)) < 400
        return ["refused"]  # where a form is refused depends on the cut, its events before do too
    return events


SIZE = 1000


def ranges(data: bytes) -> None:
    """Parse a Range header: one that is taken leads to ranges inside the file, or to 416."""
    header = data.decode("latin-1")
    if not valid_range(header):
        return
    try:
        found = FileResponse._parse_range_header(header, SIZE)
    except Exception as error:
        # Starlette keeps both exceptions to itself.
        assert type(error).__name__ == "RangeNotSatisfiable", (header, error)
        return
    assert all(0 <= start < end <= SIZE for start, end in found)
    assert len(found) <= FileResponse.max_ranges


def events(data: bytes) -> None:
    """Read what a server sends: lines of events, which the client library takes or refuses."""
    call: Call = open_call("ws://127.0.0.1")
    call._buffer.append(bytes(3200))
    for text in data.split(b"\n"):
        try:
            call._receive(text)
        except Refused as refused:
            assert len(str(refused)) < 400
            return
        event = read_event(text)
        if event["type"] not in KNOWN:
            assert line(event) is None, "types of a newer server have no line"
        piece = call._buffer.next_message(1600)
        assert piece is None or isinstance(piece, Skipped) or len(piece) <= 1600


KNOWN = frozenset(
    {
        *("session.created", "session.resumed", "session.closed", "speech.start", "stream.gap"),
        *("emotion.score", "emotion.segment", "alert", "warning", "error", "lagged"),
        *("client.reconnecting", "client.restarted", "client.lagged"),
    }
)
"""Types of events that have a line of text."""


def audio(data: bytes) -> None:
    """Decode audio of any format in any cut: the same samples, finite and within full scale."""
    if len(data) < 3:
        return
    encodings = ("linear16", "mulaw", "alaw", "f32le")
    form = AudioFormat(encodings[data[0] % 4], 8000, data[1] % 2 + 1)  # type: ignore[arg-type]
    cut, body = data[2] % 16 + 1, data[3:]
    whole = _decode(form, [body])
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    assert whole.shape[0] == form.channels
    assert np.isfinite(whole).all()
    assert (np.abs(whole) <= 1).all()
    parts = _decode(form, pieces)
    assert np.array_equal(parts, whole)


def _decode(form: AudioFormat, pieces: list[bytes]) -> np.ndarray[Any, np.dtype[np.float32]]:
    decoder = PcmDecoder(form)
    blocks = [np.zeros((form.channels, 0), np.float32), *map(decoder.decode, pieces)]
    return np.concatenate(blocks, axis=1)


def raw_format(data: bytes) -> None:
    """Look for a wrong format in any bytes: refused by name, or every byte is passed on."""
    if len(data) < 3:
        return
    encodings = ("linear16", "mulaw", "alaw", "f32le")
    form = AudioFormat(encodings[data[0] % 4], 8000, data[1] % 2 + 1)  # type: ignore[arg-type]
    cut, body = (data[2] % 16 + 1) * 64, data[3:]
    check, passed, held = FormatCheck(form), b"", body.startswith(b"RIFF"[: len(body)])
    try:
        for at in range(0, len(body), cut):
            samples, _ = check.begin(body[at : at + cut])
            check.inspect(samples)
            passed += samples
    except WrongFormat as error:
        assert str(error)
        return
    assert body.endswith(passed)
    assert held or passed == body


def websocket(data: bytes) -> None:
    """Feed bytes behind a handshake: no exception reaches the loop, any cut gives the same."""
    whole = _LOOP.run_until_complete(_converse([data]))
    cut = len(data) % 5 + 1
    assert _LOOP.run_until_complete(_converse([data[:cut], data[cut:]])) == whole


_LOOP = asyncio.new_event_loop()

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGEST = 4096


class _Handler:
    """Handler that records its messages and refusals."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def received(self, message: str | bytes) -> None:
        assert len(message) <= LARGEST
        self.got.append(message)

    def refused(self, code: str, message: str) -> None:
        self.got.append(code)

    def disconnected(self, code: int | None) -> None:
        self.got.append(code)

    def resumed(self) -> None: ...


class _Transport(asyncio.Transport):
    """Transport that records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return None

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _converse(pieces: list[bytes]) -> list[Any]:
    """Return what the handler of a connection got from `pieces`."""
    handler, transport = _Handler(), _Transport()
    problems: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    # A clock that stands still: no piece waits for other connections.
    queue = FairQueue(loop, clock=lambda: 0.0)
    connection = WebSocketConnection(lambda c, r: lambda: handler, LARGEST, set(), queue)
    connection.connection_made(transport)
    connection.data_received(HANDSHAKE)
    for piece in pieces:
        connection.data_received(piece)
        for _ in range(1 + len(piece) // 4096):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not problems, problems
    assert b"\x03\xf3" not in transport.written[-32:], "no connection ends with 1011"
    return handler.got


def _check_error(error: ProtocolError) -> None:
    """Check that an error can be sent to a client, and says no more than it should."""
    body = error.body()
    orjson.dumps(body)
    assert error.code in get_args(EventCode), error.code
    assert error.code != "internal_error"
    assert 0 < len(error.message) <= 300
    assert "\n" not in error.message or error.param is not None
    assert "Traceback" not in error.message
    assert 1000 <= error.close_code < 5000


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        messages,
        query,
        options,
        dialects,
        probing,
        multipart,
        ranges,
        events,
        audio,
        raw_format,
        websocket,
    )
}
