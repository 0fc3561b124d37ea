"""The real server as a subprocess, a raw client that checks every event, and real speech."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import av
import numpy as np
import orjson
import psutil
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed

from tests.contract import Direction, validate

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "tests" / "fixtures" / "emodb"
RATE = 16_000

Event = dict[str, Any]
Pcm = NDArray[np.int16]
T = TypeVar("T")


# -- the server --------------------------------------------------------------------------------


class Server:
    """A `server.py` that runs. `lines` are its log lines so far, `noise` what is no JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[Event] = []
        self.noise: list[str] = []
        self.tidy = True
        """Whether the log must hold no errors; a test that provokes some says False."""
        self.url = ""
        self.host, self.port = "127.0.0.1", 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1).rstrip("/")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def line(self, event: str, timeout: float = 20.0) -> Event:
        """Wait for the log line `event`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    if line.get("event") == event:
                        return line
                left = deadline - time.monotonic()
                assert left > 0, f"no log line {event!r} in {timeout} s: {self.log()}"
                if not self._reader.is_alive():
                    raise AssertionError(f"the server ended without {event!r}: {self.log()}")
                self._changed.wait(min(left, 0.1))

    def listens(self, timeout: float = 20.0) -> None:
        """Wait until the port is open, which is before the model is loaded."""
        ours = psutil.Process(self.process.pid)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert not self.ended, self.log()
            for connection in ours.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    self.port = connection.laddr.port
                    self.url = f"http://127.0.0.1:{self.port}/"
                    return
            time.sleep(0.02)
        raise AssertionError(f"no open port in {timeout} s: {self.log()}")

    def log(self) -> str:
        return "\n".join([*(str(line) for line in self.lines), *self.noise])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit(self, timeout: float = 10.0) -> int:
        """Wait for the end; the exit status."""
        status = self.process.wait(timeout)
        self._reader.join(5)
        return status

    def get(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of a plain request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, (status, body)
        return orjson.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name whose labels are as given."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get("/metrics")[2].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def rss(self) -> int:
        """Bytes of memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def fds(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self._changed:
                try:
                    line = orjson.loads(text)
                    self.lines.append(line if isinstance(line, dict) else {"event": line})
                except orjson.JSONDecodeError:
                    self.noise.append(text.rstrip("\n"))
                self._changed.notify_all()


def start(
    *args: str,
    config: str | None = None,
    env: Mapping[str, str] | None = None,
    model: str = "tests.plugins:fast",
    folder: Path,
) -> Server:
    """`python server.py --port 0 …` in the repository root, with a clean environment."""
    command = [sys.executable, "-W", "default", "server.py", "--port", "0", "--model", model]
    if config is not None:
        path = folder / "server.toml"
        path.write_text(config, encoding="utf-8")
        command += ["--config", str(path)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EMOT")}
    process = subprocess.Popen(
        [*command, *args],
        cwd=ROOT,
        env={**clean, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Server(process)


@contextlib.contextmanager
def started_server(*args: str, **options: Any) -> Iterator[Server]:
    """A server that may not be ready yet and may end as it likes; it never outlives the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(*args, folder=Path(folder), **options)
        try:
            yield server
        finally:
            if not server.ended:
                server.process.kill()
            server.exit()
            assert server.process.stderr is not None
            server.process.stderr.close()


@contextlib.contextmanager
def running_server(*args: str, **options: Any) -> Iterator[Server]:
    """A server that is ready; at the end it is told to go and must do so cleanly.

    Cleanly is: status 0, only JSON on stderr, and no errors logged unless `tidy` was set to False.
    A test that ended it itself is not asked again.
    """
    with started_server(*args, **options) as server:
        ready = server.line("ready")
        server.url = ready["url"]
        server.port = int(server.url.rstrip("/").rpartition(":")[2])
        yield server
        if not server.ended:
            server.signal()
            assert server.exit(15) == 0, server.log()
            assert not server.noise, server.noise
            if server.tidy:
                bad = [x for x in server.lines if x["level"] in ("error", "critical")]
                assert not bad, bad


class Gate:
    """A file that the `blocked` and `loading` models look at; while it is shut, they wait."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shut(self) -> None:
        self.path.touch()

    def open(self) -> None:
        self.path.unlink(missing_ok=True)


# -- clients -----------------------------------------------------------------------------------


class Client:
    """One WebSocket. A task of its own reads and checks every event as soon as it comes."""

    def __init__(self, socket: ClientConnection, direction: Direction) -> None:
        self.socket = socket
        self.checks = True
        """Whether events are held against the contract; a test in a hurry says False."""
        self._direction = direction
        self.events: list[Event] = []
        self.times: list[float] = []
        self._news = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                assert isinstance(text, str), "the server never sends binary"
                event = orjson.loads(text)
                if self.checks:
                    validate(event, self._direction)
                async with self._news:
                    self.events.append(event)
                    self.times.append(time.monotonic())
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._news:
                self._news.notify_all()

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": kind, **fields}).decode())

    async def text(self, text: str) -> None:
        await self.socket.send(text)

    async def audio(self, data: bytes, chunk: int = 3200, pace_s: float = 0.0) -> None:
        """Send `data` in messages of `chunk` bytes, `pace_s` seconds apart."""
        due = time.monotonic()
        for begin in range(0, len(data), chunk):
            await self.socket.send(data[begin : begin + chunk])
            if pace_s:
                due += pace_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event["type"] in kinds]

    async def until(
        self, wanted: str | Callable[[Event], bool], count: int = 1, timeout: float = 10.0
    ) -> Event:
        """Wait for the `count`-th event of a type (or that a function wants) and return it."""

        def fits(event: Event) -> bool:
            return event["type"] == wanted if isinstance(wanted, str) else wanted(event)

        async def look() -> Event:
            async with self._news:
                while True:
                    found = [event for event in self.events if fits(event)]
                    if len(found) >= count:
                        return found[count - 1]
                    if self.reader.done():
                        self.reader.result()
                        raise AssertionError(f"closed ({self.code}) without {wanted}: {self}")
                    await self._news.wait()

        try:
            return await asyncio.wait_for(look(), timeout)
        except TimeoutError:
            raise AssertionError(f"no {wanted} (x{count}) in {timeout} s: {self}") from None

    async def closed(self, timeout: float = 10.0) -> int | None:
        """Wait until the server has closed; the close code."""
        try:
            await asyncio.wait_for(asyncio.shield(self.reader), timeout)
        except TimeoutError:
            raise AssertionError(f"not closed in {timeout} s: {self}") from None
        await self.socket.wait_closed()
        return self.code

    async def close_session(self, timeout: float = 15.0) -> Event:
        """End the stream properly; the `session.closed` event."""
        await self.say("session.close")
        assert await self.closed(timeout) == 1000, str(self)
        assert self.events[-1]["type"] == "session.closed", str(self)
        return self.events[-1]

    async def abort(self) -> None:
        """Cut the connection without a goodbye."""
        self.socket.transport.abort()
        await self.socket.wait_closed()

    @property
    def code(self) -> int | None:
        return self.socket.close_code

    @property
    def token(self) -> str:
        return str(next(e["resume_token"] for e in self.events if "resume_token" in e))

    def __str__(self) -> str:
        last = [{k: v for k, v in e.items() if k in BRIEF} for e in self.events[-12:]]
        return json.dumps(last)


DIRECTIONS: Mapping[str, Direction] = {
    "/v1/subscribe": "to_subscriber",
    "/v1/files": "to_uploader",
}

BRIEF = ("type", "seq", "code", "message", "fatal", "reason", "audio_ms", "trigger", "sub")


@contextlib.asynccontextmanager
async def connect(
    server: Server,
    path: str = "/v1/stream",
    query: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """A client on `path`; cut at the end of the block if it is still open."""
    url = server.ws + path + (f"?{urlencode(query)}" if query else "")
    options = {"compression": None, "max_size": None, "max_queue": None, **options}
    socket = await websocket(url, open_timeout=10, close_timeout=5, **options)
    client = Client(socket, DIRECTIONS.get(path, "to_producer"))
    try:
        yield client
    finally:
        if not client.reader.done():
            client.socket.transport.abort()
        await asyncio.wait([client.reader], timeout=5)
        if client.reader.done():
            client.reader.result()


def stream(server: Server, **query: Any) -> contextlib.AbstractAsyncContextManager[Client]:
    """A producer that is configured by its URL: linear16, 16 kHz unless said otherwise."""
    return connect(server, query={"sample_rate": RATE, **query})


@contextlib.asynccontextmanager
async def subscriber(server: Server, **subscribe: Any) -> AsyncIterator[Client]:
    """A subscriber whose first subscription is in force."""
    async with connect(server, "/v1/subscribe") as client:
        await client.say("subscribe", **{"id": "s1", **subscribe})
        await client.until("subscribed")
        yield client


def run(work: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
    """Run a test's coroutine; nothing waits for ever."""

    async def bounded() -> T:
        return await asyncio.wait_for(work, timeout)

    return asyncio.run(bounded())


# -- speech ------------------------------------------------------------------------------------


@functools.cache
def clip(name: str) -> Pcm:
    """One recording of tests/fixtures/emodb at 16 kHz."""
    with av.open(str(CLIPS / name)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [f for x in container.decode(audio=0) for f in resampler.resample(x)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.int16)


@functools.cache
def speech(*names: str, pause_s: float = 1.0) -> Pcm:
    """Real speech: each clip after a pause, and a pause at the end; by default two clips.

    Pauses are faint noise, because digital silence is what no microphone gives.
    """
    names = names or ("03a01Wa.flac", "08a01Fd.flac")
    rng = np.random.default_rng(3)
    parts: list[Pcm] = []
    for name in names:
        parts += [rng.integers(-8, 9, int(pause_s * RATE)).astype(np.int16), clip(name)]
    parts.append(rng.integers(-8, 9, int(pause_s * RATE)).astype(np.int16))
    return np.concatenate(parts)


@functools.cache
def talk(seconds: float, name: str = "03a01Wa.flac") -> bytes:
    """Speech with hardly a pause in it, as linear16."""
    voice = clip(name)
    times = -(-int(seconds * RATE) // len(voice))
    return np.tile(voice, times)[: int(seconds * RATE)].tobytes()


def encode(pcm: Pcm, encoding: str = "linear16", rate: int = RATE, channels: int = 1) -> bytes:
    """16 kHz speech as a producer would send it; a second channel is silent."""
    samples = pcm.astype(np.float32) / 32768
    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate).astype(np.float32)
    if channels == 2:
        samples = np.stack([samples, np.zeros_like(samples)], axis=1).reshape(-1)
    if encoding == "f32le":
        return samples.astype("<f4").tobytes()
    linear = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int32)
    if encoding == "mulaw":
        return _mulaw(linear)
    if encoding == "alaw":
        return _alaw(linear)
    return linear.astype("<i2").tobytes()


def _mulaw(linear: NDArray[np.int32]) -> bytes:
    """ITU-T G.711 as in Sun's g711.c: bias 0x84, 8 segments, all bits inverted."""
    magnitude = np.minimum(np.abs(linear), 32635) + 0x84
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = (exponent << 4) | mantissa | np.where(linear < 0, 0x80, 0)
    return bytes((~code & 0xFF).astype(np.uint8))


def _alaw(linear: NDArray[np.int32]) -> bytes:
    """ITU-T G.711: 8 segments, even bits inverted."""
    magnitude = np.minimum(np.abs(linear), 32767) >> 4
    exponent = np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3
    exponent = np.where(magnitude < 16, 0, exponent)
    shift = np.maximum(exponent - 1, 0)
    code = np.where(magnitude < 16, magnitude, (exponent << 4) | ((magnitude >> shift) & 0x0F))
    return bytes(((code | np.where(linear < 0, 0, 0x80)) ^ 0x55).astype(np.uint8))


def utterances(events: Sequence[Event], channel: int = 0) -> list[tuple[int, int]]:
    """Begin and end in ms of each utterance that has its segment."""
    return [
        (event["audio_start_ms"], event["audio_end_ms"])
        for event in events
        if event["type"] == "emotion.segment" and event["channel"] == channel
    ]


def same_utterances(
    one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]], within_ms: int = 40
) -> bool:
    """Whether both lists tell of the same speech."""
    return len(one) == len(other) and all(
        abs(a - b) <= within_ms
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )
