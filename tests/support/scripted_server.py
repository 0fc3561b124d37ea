"""Server of the producer protocol that breaks its connections on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

Event = dict[str, Any]

SESSION: Event = {
    "audio": {"roles": ["customer", "agent"]},
    "analysis": {"analyse_channels": [0], "model": {"id": "scripted"}},
}


class Session:
    """State of one stream on the server; `socket` is None while its connection is broken."""

    def __init__(self) -> None:
        self.audio = bytearray()
        self.events: list[Event] = []
        self.scores = 0
        self.socket: ServerConnection | None = None

    async def send(self, kind: str, **body: Any) -> None:
        event = {"type": kind, "seq": len(self.events), "stream_id": "call-1", **body}
        self.events.append(event)
        if self.socket is not None:
            await self.socket.send(orjson.dumps(event).decode())

    async def close(self, code: int, reason: str = "") -> None:
        assert self.socket is not None
        await self.socket.close(code, reason)


class Scripted:
    """Server that receives audio, numbers events, and aborts connections.

    `breaks` holds the number of audio bytes after which each connection is aborted; later ones are
    kept. The server sends an `emotion.score` for every 100 ms of audio, and an `audio.ack` for
    every message if `acks` is set. `on_audio` is called after the first audio, `on_close` instead
    of sending `session.closed`.
    """

    def __init__(
        self, frame: int, rate: int, breaks: Sequence[int] = (), acks: bool = True
    ) -> None:
        self.frame, self.rate, self.acks = frame, rate, acks
        self.breaks = list(breaks)
        self.forget = False
        """Refuse the next resume with unknown_stream."""
        self.on_audio: Callable[[Session], Awaitable[None]] | None = None
        self.on_close: Callable[[Session], Awaitable[None]] | None = None
        self.requests: list[dict[str, list[str]]] = []
        self.headers: list[Any] = []
        self.sessions: list[Session] = []
        self.skips: list[tuple[int, int]] = []
        self.keepalives = 0
        self.url = ""

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Scripted]:
        """Listen on a port of 127.0.0.1 during the block; 0: a free one."""
        async with serve(self._handle, "127.0.0.1", port, compression=None) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            yield self

    @property
    def audio(self) -> bytes:
        """Bytes that the newest session has received."""
        return bytes(self.sessions[-1].audio)

    @property
    def samples(self) -> int:
        """Whole samples per channel that the newest session has received."""
        return self._samples(self.sessions[-1])

    def _samples(self, session: Session) -> int:
        return len(session.audio) // self.frame

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        self.requests.append(query)
        self.headers.append(socket.request.headers)
        with suppress(ConnectionClosed):
            if "resume" not in query:
                session = Session()
                self.sessions.append(session)
                session.socket = socket
                await session.send("session.created", resume_token="rt", limits={}, session=SESSION)
            elif self.forget:
                self.forget = False
                session = Session()
                session.socket = socket
                await self.refuse(session, "unknown_stream", 4404)
                return
            else:
                session = self.sessions[-1]
                await self._resume(session, socket, int(query["last_seq"][0]))
            await self._receive(session, socket)

    async def _resume(self, session: Session, socket: ServerConnection, last: int) -> None:
        session.socket = socket
        del session.audio[len(session.audio) // self.frame * self.frame :]
        missed = [event for event in session.events if event["seq"] > last]
        samples = self._samples(session)
        position = {"received_samples": samples, "received_ms": samples * 1000 // self.rate}
        await session.send("session.resumed", **position)
        for event in missed:
            await socket.send(orjson.dumps(event).decode())

    async def _receive(self, session: Session, socket: ServerConnection) -> None:
        limit = self.breaks.pop(0) if self.breaks else None
        async for message in socket:
            if isinstance(message, str):
                if await self._control(session, orjson.loads(message)):
                    return
                continue
            session.audio += message if limit is None else message[:limit]
            limit = None if limit is None else limit - len(message)
            broken = limit is not None and limit <= 0
            if broken:
                session.socket = None
            await self._progress(session)
            if broken:
                socket.transport.abort()
                return
            if self.on_audio is not None:
                on_audio, self.on_audio = self.on_audio, None
                await on_audio(session)
                if socket.state is not State.OPEN:
                    return

    async def _control(self, session: Session, message: Event) -> bool:
        match message["type"]:
            case "keepalive":
                self.keepalives += 1
            case "input.resume":
                samples = message["skipped_ms"] * self.rate // 1000
                self.skips.append((self._samples(session), samples))
                session.audio += bytes(samples * self.frame)
            case "session.close" if self.on_close is not None:
                await self.on_close(session)
                return True
            case "session.close":
                await self.send_closed(session, "completed")
                await session.close(1000)
                return True
        return False

    async def _progress(self, session: Session) -> None:
        while session.scores < self._samples(session) // (self.rate // 10):
            session.scores += 1
            await session.send(
                "emotion.score",
                number=session.scores,
                channel=0,
                role="customer",
                audio_end_ms=session.scores * 100,
                scores={"angry": 0.7, "sad": 0.3},
                rolling={},
                hints=[],
            )
        if self.acks:
            await session.send("audio.ack", received_samples=self._samples(session))

    async def send_closed(self, session: Session, reason: str) -> None:
        totals = dict.fromkeys(("speech_ms", "scores", "segments", "dropped_ms"), 0)
        totals["audio_ms"] = self._samples(session) * 1000 // self.rate
        await session.send("session.closed", reason=reason, totals=totals, summary=[])

    async def refuse(self, session: Session, code: str, close: int) -> None:
        await session.send("error", fatal=True, code=code, message=f"because of {code}")
        await session.close(close, code)
