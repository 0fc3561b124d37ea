"""Producer session that reconnects without losing audio or events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Self

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client.remote.audio_format import AudioFormat
from client.remote.backoff import Backoff, Retries
from client.remote.endpoint import STREAM, Endpoint, closed_error
from client.remote.errors import Broken, NoServer, Refused, Unreachable
from client.remote.event_queue import EventQueue
from client.remote.events import Event
from client.remote.reader import MALFORMED, malformed, read_event
from client.remote.send_buffer import SendBuffer, Skipped
from client.remote.session import Session
from stream.protocol.wire.session import SessionClosed
from stream.terms import Encoding

OPEN_TIMEOUT_S = 10.0
"""Longest time from the connection to `session.created` or `session.resumed`."""
KEEPALIVE_S = 10.0
"""Time without audio after which `keepalive` is sent."""
CLOSE_TIMEOUT_S = 60.0
"""Longest time without progress from `session.close` to `session.closed`."""
ENDED = 1000
"""Code of the `Refused` that `Call.send` raises after a session that ended normally."""


class Call:
    """One producer session, created by `stream()` and used with `async with`.

    Iteration yields the server's events and three of the client: `client.reconnecting`
    {why, delay_s}; `client.restarted` {why} when the session could not be resumed or reached the
    server's longest duration, and a new one began with the buffered audio; `client.lagged`
    {dropped} when events were dropped because they were not read.
    """

    def __init__(
        self,
        server: Endpoint,
        audio: AudioFormat,
        query: Sequence[tuple[str, str]],
        *,
        backlog_s: float = 60.0,
        lossy: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        server.address(STREAM)  # raises for an invalid address, before anything starts
        self._server = server
        self._query = query
        self._lossy = lossy
        self._backoff = backoff or Backoff()
        self._buffer = SendBuffer(audio, backlog_s)
        self._session = Session(audio, self._buffer, self._acknowledged)
        self._events = EventQueue()
        self._error: Exception | None = None
        self._wake_writer, self._space = asyncio.Event(), asyncio.Event()
        self._ready, self._started, self._done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises `Unreachable` or `Refused`."""
        self._task = asyncio.create_task(self._run())
        try:
            await self._started.wait()
            self._check()
        except BaseException:
            await self._cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._done.is_set():
                await self.close()
        finally:
            await self._cancel()

    async def send(self, chunk: bytes | bytearray | memoryview) -> None:
        """Send audio in the session's encoding; it is buffered until the server acknowledges it.

        Waits while the buffer is full. A `lossy` call does not wait: it drops the oldest audio and
        declares that to the server. Raises `Refused` or `Unreachable` once the session has ended
        or failed.
        """
        rest = memoryview(chunk)
        while rest:
            self._check()
            closed = self._session.closed
            if self._session.ending or closed is not None:
                reason = "closing" if closed is None else closed["reason"]
                raise Refused(ENDED, reason, "the session has ended: it accepts no more audio")
            size = len(rest) if self._lossy else min(len(rest), self._buffer.free)
            if size:
                self._buffer.append(rest[:size])
                self._wake_writer.set()
                rest = rest[size:]
            else:
                self._space.clear()
                await self._space.wait()
        await asyncio.sleep(0)

    async def close(self) -> SessionClosed:
        """Send the buffered audio, end the session, and return `session.closed` with the summary.

        Raises `Refused` or `Unreachable` if the session cannot be ended normally.
        """
        self._session.ending = True
        self._wake_writer.set()
        await self._done.wait()
        self._check()
        assert self._session.closed is not None
        return self._session.closed

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield all events in order, each once, up to `session.closed`. Raises as `close` does."""
        async for event in self._events:
            yield event
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """Open one connection after another until the session is closed or has failed."""
        retries = Retries(self._backoff)
        now = asyncio.get_running_loop().time
        try:
            while self._session.closed is None:
                begun = now()
                try:
                    await self._run_connection()
                except Refused as refused:
                    self._session.restart(refused)
                except Broken as broken:
                    if isinstance(broken, NoServer) and not self._started.is_set():
                        raise Unreachable(broken.why) from None
                    if self._session.ready:
                        retries.succeeded(now() - begun)
                    delay = retries.failed(broken, now())
                    self._events.put(
                        {"type": "client.reconnecting", "why": broken.why, "delay_s": delay}
                    )
                    await asyncio.sleep(delay)
        except Exception as error:
            self._error = error
        finally:
            self._events.end()
            for event in (self._done, self._started, self._space):
                event.set()

    async def _run_connection(self) -> None:
        """Run one connection until the session is closed. Raises the reason for any other end."""
        ending: Exception
        self._ready.clear()
        query = self._session.connect(self._query)
        async with await self._server.connect(STREAM, query) as socket:
            try:
                async with asyncio.TaskGroup() as group:
                    writer = group.create_task(self._write(socket))
                    group.create_task(self._read(socket, writer))
            except* ConnectionClosed as ended:
                closed = ended.exceptions[0]
                assert isinstance(closed, ConnectionClosed)
                ending = closed_error(closed, self._session.fatal_error)
            except* (Broken, Refused, Unreachable) as ended:
                ending = ended.exceptions[0]
            else:
                return
        raise ending

    async def _read(self, socket: ClientConnection, writer: asyncio.Task[None]) -> None:
        while self._session.closed is None:
            self._receive(await socket.recv())
        writer.cancel()

    def _receive(self, message: str | bytes) -> None:
        """Handle a message of the server. Raises `Refused` for one that is not a valid event."""
        event = read_event(message)
        try:
            handled = self._session.handle(event)
        except MALFORMED:
            raise malformed(event) from None
        for one in handled:
            self._events.put(one)
        if self._session.ready:
            self._ready.set()
            self._started.set()

    def _acknowledged(self) -> None:
        """Let the caller append, and the writer send."""
        self._space.set()
        self._wake_writer.set()

    async def _write(self, socket: ClientConnection) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._ready.wait()
        except TimeoutError:
            text = f"the server did not open the session within {OPEN_TIMEOUT_S:.0f} s"
            raise Broken(text) from None
        while True:
            piece = self._buffer.next_message(self._session.message_bytes)
            if isinstance(piece, Skipped):
                await _send_json(socket, {"type": "input.resume", "skipped_ms": piece.ms})
            elif piece:
                await socket.send(piece)
            elif self._session.ending and self._buffer.drained:
                self._session.close_sent = True
                await _send_json(socket, {"type": "session.close"})
                await self._progress_ends()
                raise Unreachable(
                    f"the server did not end the session within {CLOSE_TIMEOUT_S:.0f} s"
                )
            else:
                self._wake_writer.clear()
                try:
                    async with asyncio.timeout(KEEPALIVE_S):
                        await self._wake_writer.wait()
                except TimeoutError:
                    await _send_json(socket, {"type": "keepalive"})

    async def _progress_ends(self) -> None:
        """Wait until the server has analysed nothing for `CLOSE_TIMEOUT_S`."""
        while True:
            before = self._session.processed_ms
            await asyncio.sleep(CLOSE_TIMEOUT_S)
            if self._session.processed_ms == before:
                return


async def _send_json(socket: ClientConnection, message: Mapping[str, object]) -> None:
    await socket.send(orjson.dumps(message).decode())


def stream(
    url: str,
    *,
    sample_rate: int = 16_000,
    encoding: Encoding = "linear16",
    channels: int = 1,
    roles: Sequence[str] = (),
    stream_id: str | None = None,
    tags: Sequence[str] = (),
    labels: Sequence[str] = (),
    interval_ms: int | None = None,
    window_ms: int | None = None,
    disclosed: bool = False,
    takeover: bool = False,
    api_key: str | None = None,
    ca_file: Path | None = None,
    tls: SSLContext | None = None,
    backlog_s: float = 60.0,
    lossy: bool = False,
    backoff: Backoff | None = None,
) -> Call:
    """Return a session for live analysis: `async with stream(url, sample_rate=8000) as call`.

    `sample_rate` is in Hz; channels are interleaved. Up to `backlog_s` seconds of audio are
    buffered for a reconnect. `lossy` is for live sources that must never wait: when the buffer is
    full, the oldest audio is dropped and declared to the server. `takeover` ends another session
    that has this `stream_id` now. Raises ValueError for an invalid address; entering the session
    raises `Unreachable` and `Refused`.
    """
    parameters = {
        "sample_rate": sample_rate,
        "encoding": encoding,
        "channels": channels,
        "roles": ",".join(roles),
        "stream_id": stream_id,
        "labels": ",".join(labels),
        "interval_ms": interval_ms,
        "window_ms": window_ms,
        "disclosed": "true" if disclosed else None,
        "takeover": "true" if takeover else None,
    }
    query = [(name, str(value)) for name, value in parameters.items() if value not in (None, "")]
    query += [("tag", tag) for tag in tags]
    return Call(
        Endpoint(url, api_key, ca_file, tls),
        AudioFormat(encoding, sample_rate, channels),
        query,
        backlog_s=backlog_s,
        lossy=lossy,
        backoff=backoff,
    )
