"""A small server that speaks the producer's side of the protocol, and breaks when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
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
    """What the server keeps of one stream; `socket` is None while it is not heard."""

    def __init__(self) -> None:
        self.audio = bytearray()
        self.ring: list[Event] = []
        self.told = 0
        self.socket: ServerConnection | None = None

    async def tell(self, kind: str, **body: Any) -> None:
        event = {"type": kind, "seq": len(self.ring), "stream_id": "call-1", **body}
        self.ring.append(event)
        if self.socket is not None:
            await self.socket.send(orjson.dumps(event).decode())

    async def leave(self, code: int, reason: str = "") -> None:
        assert self.socket is not None
        await self.socket.close(code, reason)


class Scripted:
    """Takes audio, numbers events, and drops its connection after so many bytes of each.

    `breaks` are those numbers, one per connection; after the last one it holds. Every 100 ms of
    audio gives an `emotion.score`; every message gives an `audio.ack` if `acks`. `on_audio` and
    `on_close` happen after the first audio and instead of `session.closed`.
    """

    def __init__(
        self, frame: int, rate: int, breaks: Sequence[int] = (), acks: bool = True
    ) -> None:
        self.frame, self.rate, self.acks = frame, rate, acks
        self.breaks = list(breaks)
        self.forget = False
        """Answer one resume with unknown_stream."""
        self.on_audio: Callable[[Session], Awaitable[None]] | None = None
        self.on_close: Callable[[Session], Awaitable[None]] | None = None
        self.requests: list[dict[str, list[str]]] = []
        self.headers: list[Any] = []
        self.sessions: list[Session] = []
        self.skips: list[tuple[int, int]] = []
        self.keepalives = 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        async with serve(self._handle, "127.0.0.1", 0, compression=None) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            yield self

    @property
    def audio(self) -> bytes:
        return bytes(self.sessions[-1].audio)

    @property
    def samples(self) -> int:
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
                await session.tell("session.created", resume_token="rt", limits={}, session=SESSION)
            elif self.forget:
                self.forget = False
                session = Session()
                session.socket = socket
                await self.fail(session, "unknown_stream", 4404)
                return
            else:
                session = self.sessions[-1]
                await self._resume(session, socket, int(query["last_seq"][0]))
            await self._listen(session, socket)

    async def _resume(self, session: Session, socket: ServerConnection, last: int) -> None:
        session.socket = socket
        del session.audio[len(session.audio) // self.frame * self.frame :]
        missed = [event for event in session.ring if event["seq"] > last]
        samples = self._samples(session)
        at = {"received_samples": samples, "received_ms": samples * 1000 // self.rate}
        await session.tell("session.resumed", **at)
        for event in missed:
            await socket.send(orjson.dumps(event).decode())

    async def _listen(self, session: Session, socket: ServerConnection) -> None:
        left = self.breaks.pop(0) if self.breaks else None
        async for message in socket:
            if isinstance(message, str):
                if await self._control(session, orjson.loads(message)):
                    return
                continue
            kept = message if left is None else message[:left]
            left = None if left is None else left - len(message)
            broken = left is not None and left <= 0
            session.audio += kept
            if broken:
                session.socket = None
            await self._progress(session)
            if broken:
                socket.transport.abort()
                return
            if self.on_audio is not None:
                act, self.on_audio = self.on_audio, None
                await act(session)
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
                await self.closed(session, "completed")
                await session.leave(1000)
                return True
        return False

    async def _progress(self, session: Session) -> None:
        while session.told < self._samples(session) // (self.rate // 10):
            session.told += 1
            await session.tell(
                "emotion.score",
                number=session.told,
                channel=0,
                role="customer",
                audio_end_ms=session.told * 100,
                scores={"angry": 0.7, "sad": 0.3},
                rolling={},
                hints=[],
            )
        if self.acks:
            await session.tell("audio.ack", received_samples=self._samples(session))

    async def closed(self, session: Session, reason: str) -> None:
        totals = dict.fromkeys(("speech_ms", "scores", "segments", "dropped_ms"), 0)
        totals["audio_ms"] = self._samples(session) * 1000 // self.rate
        await session.tell("session.closed", reason=reason, totals=totals, summary=[])

    async def fail(self, session: Session, code: str, close: int) -> None:
        await session.tell("error", fatal=True, code=code, message=f"because of {code}")
        await session.leave(close, code)


def within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine, bounded."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())
