"""A call being analysed: send audio, get events; breaks are healed without losing either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Self

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client.remote.backoff import Backoff, Retries
from client.remote.endpoint import STREAM, Endpoint, closed_error
from client.remote.errors import Broken, NoServer, Refused, Unreachable
from client.remote.event_queue import Event, EventQueue
from client.remote.send_buffer import SendBuffer, Skipped
from stream.types import AudioFormat, Encoding

GREETING_S = 10.0
KEEPALIVE_S = 10.0
CLOSING_S = 60.0
"""How long the server may take from `session.close` to `session.closed`."""
PIECE_S = 0.5
"""Audio that has piled up is sent in messages of this length."""
ENDED = 1000
"""Code of the `Refused` that audio meets after the session ended in order."""


class Call:
    """One producer session, made by `stream()`; use it as `async with`.

    Besides the server's events it yields its own: `client.reconnecting` {why, delay_s},
    `client.restarted` {why} when the old session was gone and a new one began with the audio still
    held, and `client.lagged` {dropped} when nobody read the events for long.
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
        server.address(STREAM)  # a wrong address is told before anything starts
        self._server = server
        self._query = query
        self._lossy = lossy
        self._backoff = backoff or Backoff()
        self._audio = audio
        self._piece = max(1, int(PIECE_S * audio.sample_rate)) * audio.bytes_per_frame
        self._backlog = SendBuffer(audio, backlog_s)
        self._token: str | None = None
        self._last_seq = -1
        self._fault: Event | None = None
        self._inbox = EventQueue()
        self._lost: str | None = None
        self._closing = self._asked = False
        self._closed: Event | None = None
        self._error: Exception | None = None
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._greeted, self._begun, self._done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises `Unreachable` or `Refused`."""
        self._task = asyncio.create_task(self._run())
        try:
            await self._begun.wait()
            self._check()
        except BaseException:
            await self._abandon()
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
            await self._abandon()

    async def send(self, chunk: bytes | bytearray | memoryview) -> None:
        """Send audio in the session's encoding; it is held until the server has it.

        Waits while as much is held as fits, unless the call is `lossy`: then the oldest goes and
        the server is told. Raises `Refused` or `Unreachable` once the session cannot go on.
        """
        rest = memoryview(chunk)
        while rest:
            self._check()
            if self._closing or self._closed is not None:
                reason = str((self._closed or {}).get("reason", "closing"))
                raise Refused(ENDED, reason, "the session is over, it takes no more audio")
            size = len(rest) if self._lossy else min(len(rest), self._backlog.room)
            if size:
                self._backlog.append(rest[:size])
                self._more.set()
                rest = rest[size:]
            else:
                self._room.clear()
                await self._room.wait()
        await asyncio.sleep(0)

    async def close(self) -> Event:
        """Send what is held, end the session, and return `session.closed` with the summary.

        Raises `Refused` or `Unreachable` when the session cannot be ended properly.
        """
        self._closing = True
        self._more.set()
        await self._done.wait()
        self._check()
        assert self._closed is not None
        return self._closed

    async def __aiter__(self) -> AsyncIterator[Event]:
        """All events in order, each once, to `session.closed`. Raises as `close` does."""
        async for event in self._inbox:
            yield event
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """Connections one after another, until the session is closed or cannot go on."""
        retries = Retries(self._backoff)
        now = asyncio.get_running_loop().time
        try:
            while self._closed is None:
                begun = now()
                try:
                    await self._connection()
                except Refused as refused:
                    self._begin_anew(refused)
                except Broken as broken:
                    if isinstance(broken, NoServer) and not self._begun.is_set():
                        raise Unreachable(broken.why) from None
                    if self._greeted.is_set():
                        retries.worked(now() - begun)
                    delay = retries.failed(broken, now())
                    self._inbox.put(
                        {"type": "client.reconnecting", "why": broken.why, "delay_s": delay}
                    )
                    await asyncio.sleep(delay)
        except Exception as error:
            self._error = error
        finally:
            self._inbox.end()
            for event in (self._done, self._begun, self._room):
                event.set()

    def _begin_anew(self, refused: Refused) -> None:
        """Only a session that could not be resumed is replaced; every other refusal is final."""
        if refused.code != 4404 or self._token is None:
            raise refused
        if self._asked:
            raise refused
        self._token, self._lost = None, refused.message

    async def _connection(self) -> None:
        """One connection from its first message to its end, which is told as an exception."""
        ending: Exception
        self._fault = None
        self._greeted.clear()
        query = list(self._query)
        if self._token is None:
            self._last_seq = -1
            self._backlog.restart()
        else:
            query = [("resume", self._token), ("last_seq", str(self._last_seq))]
        async with await self._server.connect(STREAM, query) as socket:
            try:
                async with asyncio.TaskGroup() as group:
                    writer = group.create_task(self._write(socket))
                    group.create_task(self._read(socket, writer))
            except* ConnectionClosed as ended:
                closed = ended.exceptions[0]
                assert isinstance(closed, ConnectionClosed)
                ending = closed_error(closed, self._fault)
            except* (Broken, Refused, Unreachable) as ended:
                ending = ended.exceptions[0]
            else:
                return
        raise ending

    async def _read(self, socket: ClientConnection, writer: asyncio.Task[None]) -> None:
        while self._closed is None:
            self._hear(orjson.loads(await socket.recv()))
        writer.cancel()

    async def _write(self, socket: ClientConnection) -> None:
        try:
            async with asyncio.timeout(GREETING_S):
                await self._greeted.wait()
        except TimeoutError:
            raise Broken("the server does not greet") from None
        while True:
            piece = self._backlog.take(self._piece)
            if isinstance(piece, Skipped):
                await _say(socket, {"type": "input.resume", "skipped_ms": piece.ms})
            elif piece:
                await socket.send(piece)
            elif self._closing and self._backlog.drained:
                self._asked = True
                await _say(socket, {"type": "session.close"})
                await asyncio.sleep(CLOSING_S)
                raise Unreachable(f"the server did not end the session within {CLOSING_S:.0f} s")
            else:
                self._more.clear()
                try:
                    async with asyncio.timeout(KEEPALIVE_S):
                        await self._more.wait()
                except TimeoutError:
                    await _say(socket, {"type": "keepalive"})

    def _hear(self, event: Event) -> None:
        kind, seq = event.get("type"), event.get("seq")
        if kind == "error" and event.get("fatal"):
            self._fault = event
        if kind == "session.resumed":
            if self._greeted.is_set():
                return  # the answer to an earlier resume, replayed
            self._resumed(event)
            # Ahead of what it replays its number says nothing yet; after it, it is the next.
            self._last_seq += seq == self._last_seq + 1
        elif isinstance(seq, int):
            if seq <= self._last_seq:
                return
            self._last_seq = seq
        match kind:
            case "session.created":
                if self._lost is not None:
                    self._inbox.put({"type": "client.restarted", "why": self._lost})
                    self._lost = None
                self._token = event.get("resume_token")
                limits = event.get("limits", {})
                most = (
                    int(limits.get("max_frame_ms", 10_000)) * self._audio.bytes_per_second // 1000
                )
                most = min(most, int(limits.get("max_message_bytes", most)))
                self._piece = min(self._piece, max(1, most))
                self._greeted.set()
                self._begun.set()
            case "audio.ack":
                self._acknowledged(event["received_samples"])
            case "session.closed":
                self._ended(event)
        self._inbox.put(event)

    def _acknowledged(self, samples: int) -> None:
        self._backlog.ack(samples)
        self._room.set()
        self._more.set()

    def _ended(self, event: Event) -> None:
        """The session is over; after a fatal error that may pass, another one is to follow."""
        if self._fault is not None:
            self._acknowledged(event["totals"]["audio_ms"] * self._audio.sample_rate // 1000)
            if not (self._closing and self._backlog.drained):
                self._token, self._lost = None, str(self._fault.get("message"))
                return
        self._closed = event

    def _resumed(self, event: Event) -> None:
        self._token = event.get("resume_token", self._token)
        try:
            self._backlog.rewind(event["received_samples"])
        except ValueError as error:
            raise Refused(4400, "invalid_message", str(error)) from None
        self._room.set()
        self._greeted.set()


async def _say(socket: ClientConnection, message: Event) -> None:
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
    api_key: str | None = None,
    ca_file: Path | None = None,
    tls: SSLContext | None = None,
    backlog_s: float = 60.0,
    lossy: bool = False,
    backoff: Backoff | None = None,
) -> Call:
    """A session that analyses audio live: `async with stream(url, sample_rate=8000) as call`.

    `sample_rate` in Hz, channels interleaved. Up to `backlog_s` seconds of audio are held for a
    reconnect; `lossy` says that a live source must never wait, so older audio is dropped instead
    (and declared). Raises ValueError for a wrong address, on entry `Unreachable` and `Refused`.
    """
    wishes = {
        "sample_rate": sample_rate,
        "encoding": encoding,
        "channels": channels,
        "roles": ",".join(roles),
        "stream_id": stream_id,
        "labels": ",".join(labels),
        "interval_ms": interval_ms,
        "window_ms": window_ms,
        "disclosed": "true" if disclosed else None,
    }
    query = [(name, str(value)) for name, value in wishes.items() if value not in (None, "")]
    query += [("tag", tag) for tag in tags]
    return Call(
        Endpoint(url, api_key, ca_file, tls),
        AudioFormat(encoding, sample_rate, channels),
        query,
        backlog_s=backlog_s,
        lossy=lossy,
        backoff=backoff,
    )
