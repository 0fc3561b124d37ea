"""What the benches share: speech, a server process, a load generator, figures and tables."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import orjson
import psutil  # type: ignore[import-untyped]  # has no types of its own
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from client.sources import ENCODERS, blocks, probe
from stream.backends import select
from stream.backends.base import LABELS, Backend
from stream.decode import Pcm
from stream.types import BYTES_PER_SAMPLE, Encoding, ModelInfo

ROOT = Path(__file__).resolve().parent.parent
CALL = ROOT / "client" / "samples" / "call.flac"
CLIPS = ROOT / "tests" / "fixtures" / "emodb"
NULL = "bench.common:null_backend"
JSON = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
WARM_UP_S = 4.0
"""Figures are taken from here on: the first windows of all streams come together."""


# -- models that stand in ----------------------------------------------------------------------


class NullBackend:
    """Answers at once and says nothing: what is left is what everything else costs."""

    info = ModelInfo(
        id="null",
        revision="0",
        labels=LABELS,
        frame_hop=320,
        lengths=(16_000, 32_000, 48_000),
        batch_sizes=(1, 2, 4, 8, 16, 32),
        temperature=1.0,
        licence="none",
        device="cpu",
        why="A bench measures the server without a model.",
    )

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(batch), batch.shape[1] // 320, len(LABELS)), np.float32)

    def close(self) -> None:
        pass


def null_backend() -> Backend:
    return NullBackend()


class BlockingBackend:
    """A real model that hangs for as long as the file named in BENCH_BLOCK exists."""

    def __init__(self, real: Backend, block: Path) -> None:
        self._real = real
        self._block = block

    @property
    def info(self) -> ModelInfo:
        return self._real.info

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        while self._block.exists():
            time.sleep(0.02)
        return self._real.infer(batch)

    def close(self) -> None:
        self._real.close()


def blocking_backend() -> Backend:
    return BlockingBackend(
        select.choose(os.environ["BENCH_MODEL"]), Path(os.environ["BENCH_BLOCK"])
    )


# -- speech ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire:
    """How audio is sent: telephony by default."""

    encoding: Encoding = "mulaw"
    sample_rate: int = 8_000
    chunk_ms: int = 20

    @property
    def chunk_s(self) -> float:
        return self.chunk_ms / 1000

    def chunks(self, pcm: Pcm) -> list[bytes]:
        """Whole chunks of a recording at this rate."""
        data = ENCODERS[self.encoding](pcm)
        size = self.sample_rate * self.chunk_ms // 1000 * BYTES_PER_SAMPLE[self.encoding]
        return [data[i : i + size] for i in range(0, len(data) - size + 1, size)]

    def __str__(self) -> str:
        return f"{self.sample_rate // 1000} kHz {self.encoding}, {self.chunk_ms} ms"


def recordings(sample_rate: int) -> list[Pcm]:
    """Both sides of a telephone call with their pauses, and acted sentences close together."""
    sides = np.concatenate([*blocks(probe(CALL), sample_rate, 2)])
    pause = np.zeros((sample_rate * 2 // 5, 1), np.int16)
    clips = [
        piece
        for path in sorted(CLIPS.glob("*.flac"))
        for piece in (*blocks(probe(path), sample_rate, 1), pause)
    ]
    return [sides[:, :1], sides[:, 1:], np.concatenate(clips)]


def frames(chunks: Iterable[bytes]) -> list[bytes]:
    """Masked binary frames, made once: the load generator must not cost what the server costs."""
    return [Frame(Opcode.BINARY, chunk).serialize(mask=True) for chunk in chunks]


# -- the server --------------------------------------------------------------------------------


class Server:
    """A real `server.py` in a process of its own, with its log in a temporary file."""

    def __init__(
        self,
        model: str,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        allow_many_sockets()
        # Lives as long as the server, not as long as a block.
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115
        command = [sys.executable, "server.py", "--model", model, "--port", "0"]
        for key, value in {"log.format": "json", **(settings or {})}.items():
            command += ["--set", f"{key}={value}"]
        began = time.monotonic()
        self._popen = subprocess.Popen(
            command, cwd=ROOT, stderr=self._log, env={**os.environ, **(environ or {})}
        )
        self.process = psutil.Process(self._popen.pid)
        self.http = self._ready()
        self.ws = self.http.replace("http", "ws", 1)
        self.start_s = time.monotonic() - began
        """From the start of the process to the line that says it is ready."""

    def _ready(self) -> str:
        while self._popen.poll() is None:
            for line in Path(self._log.name).read_text().splitlines():
                if '"event":"ready"' in line:
                    return str(json.loads(line)["url"]).rstrip("/")
            time.sleep(0.01)
        sys.exit(Path(self._log.name).read_text().strip())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self._log.close()

    def cpu_s(self) -> float:
        """CPU seconds of all threads so far; the kernel counts in hundredths."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        return float(self.process.memory_info().rss) / 2**20

    def metrics(self) -> dict[str, float]:
        """Every series by its name and labels, as /metrics writes them."""
        with urlopen(f"{self.http}/metrics") as response:
            text = response.read().decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def allow_many_sockets() -> None:
    """Raise the soft limit on open files to the hard one; the server inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Spread:
    """What a histogram gathered between two looks; quantiles are their bucket's upper end."""

    count: float
    mean: float
    p50: float
    p99: float


def spread(before: Mapping[str, float], after: Mapping[str, float], name: str) -> Spread:
    def grown(key: str) -> float:
        return after.get(key, 0.0) - before.get(key, 0.0)

    bounds = [
        (float(found[1]), grown(key))
        for key in after
        if (found := re.fullmatch(rf'{name}_bucket{{le="(.+)"}}', key))
    ]
    count = grown(f"{name}_count")

    def quantile(share: float) -> float:
        return next((le for le, n in bounds if n >= share * count), float("nan"))

    mean = grown(f"{name}_sum") / count if count else float("nan")
    return Spread(count, mean, quantile(0.5), quantile(0.99))


class Cpu:
    """CPU seconds since it was made: of the server, of this process, and of everybody else."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        return self._server.cpu_s(), time.process_time(), sum(machine[:8]) - idle, time.monotonic()

    def shares(self) -> tuple[float, float, float]:
        """In cores: server, load generator, all other processes together."""
        server, own, machine, now = (b - a for a, b in zip(self._before, self._now(), strict=True))
        return server / now, own / now, max(0.0, machine - server - own) / now


# -- the load generator ------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Producer:
    """One stream that plays a recording in a loop, from a place of its own."""

    name: str
    recording: Sequence[bytes]
    offset: int
    sent: list[float] = field(default_factory=list)
    """When each chunk was written, in monotonic seconds."""
    gaps: int = 0
    warnings: int = 0
    totals: Mapping[str, Any] = field(default_factory=dict)
    socket: ClientConnection = field(init=False)
    _reading: asyncio.Task[None] = field(init=False)

    async def open(self, server: Server, wire: Wire, **query: object) -> None:
        described = {
            "sample_rate": wire.sample_rate,
            "encoding": wire.encoding,
            "stream_id": self.name,
            "results": "false",
            **query,
        }
        url = f"{server.ws}/v1/stream?{urlencode(described)}"
        self.socket = await connect(url, compression=None, max_queue=None, proxy=None)
        self._reading = asyncio.create_task(self._read())

    def send(self) -> None:
        """Write the next chunk; whole frames, so that the library's own fit in between."""
        if self.socket.transport.is_closing():
            return
        at = (self.offset + len(self.sent)) % len(self.recording)
        self.sent.append(time.monotonic())
        self.socket.transport.write(self.recording[at])

    @property
    def cut(self) -> str | None:
        """Why the stream ended before it was meant to, if it did."""
        return self.socket.close_reason if self.socket.transport.is_closing() else None

    async def close(self) -> None:
        """End the stream and wait for its totals."""
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send('{"type":"session.close"}')
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                event = orjson.loads(text)
                match event["type"]:
                    case "stream.gap":
                        self.gaps += 1
                    case "warning" | "error":
                        self.warnings += 1
                    case "session.closed":
                        self.totals = event["totals"]


def cast(
    count: int, recorded: Sequence[Sequence[bytes]], prefix: str = "stream"
) -> dict[str, Producer]:
    """`count` producers by name: different speakers, each from another place."""
    producers = {}
    for number in range(count):
        recording = recorded[number % len(recorded)]
        # The golden ratio keeps any number of starting points apart.
        offset = int(number * 0.618034 % 1 * len(recording))
        name = f"{prefix}-{number}"
        producers[name] = Producer(name, recording, offset)
    return producers


@dataclass(frozen=True, slots=True)
class Heard:
    """A score's arrival at a subscriber, and how long after its last sample had been sent."""

    at: float
    latency_ms: float
    trigger: str


class Listener:
    """A subscriber of all scores."""

    def __init__(self, producers: Mapping[str, Producer], chunk_ms: int) -> None:
        self._producers = producers
        self._chunk_ms = chunk_ms
        self.heard: list[Heard] = []

    async def open(self, server: Server) -> None:
        wanted = {"type": "subscribe", "snapshot": False, "filter": {"events": ["emotion.score"]}}
        self.socket = await subscribe(server, wanted)
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        await self.socket.close()
        await self._reading

    def latencies(
        self, since: float, until: float = float("inf"), trigger: str = "interval"
    ) -> list[float]:
        """Milliseconds, of the scores that arrived in `[since, until)`."""
        return [h.latency_ms for h in self.heard if since <= h.at < until and h.trigger == trigger]

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                now, event = time.monotonic(), orjson.loads(text)
                producer = self._producers.get(event.get("stream_id", ""))
                if event["type"] != "emotion.score" or producer is None:
                    continue
                chunk = (event["audio_end_ms"] - 1) // self._chunk_ms
                latency_ms = (now - producer.sent[chunk]) * 1000
                self.heard.append(Heard(now, latency_ms, event["trigger"]))


async def subscribe(server: Server, wanted: Mapping[str, Any]) -> ClientConnection:
    socket = await connect(
        f"{server.ws}/v1/subscribe", compression=None, max_queue=None, proxy=None
    )
    await socket.send(orjson.dumps(wanted), text=True)
    await socket.recv()
    return socket


class Load:
    """Streams played in real time from one task on an absolute schedule, chunks evenly apart."""

    def __init__(self, server: Server, producers: Mapping[str, Producer], wire: Wire) -> None:
        self._server = server
        self.producers = producers
        self._wire = wire
        self.lags: list[float] = []
        """How late each chunk was sent, in seconds."""

    async def start(self, **query: object) -> None:
        for producer in self.producers.values():
            await producer.open(self._server, self._wire, **query)
        self._playing = asyncio.create_task(self._play())

    async def stop(self) -> None:
        """End all streams properly."""
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)
        await asyncio.gather(*(p.close() for p in self.producers.values()))

    async def _play(self) -> None:
        start, chunk_s = time.monotonic(), self._wire.chunk_s
        for tick in itertools.count() if self.producers else ():
            for number, producer in enumerate(self.producers.values()):
                due = start + (tick + number / len(self.producers)) * chunk_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.lags.append(time.monotonic() - due)
                producer.send()

    def total(self, key: str) -> int:
        """A field of `session.closed`'s totals, over all streams."""
        return sum(p.totals.get(key, 0) for p in self.producers.values())


# -- words and figures -------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned text that is Markdown as well; figures to the right."""
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    first, *rest = widths
    lines = [list(head), ["-" * first, *("-" * (w - 1) + ":" for w in rest)], *cells]
    return "\n".join(
        f"| {line[0]:<{first}} | "
        + " | ".join(f"{text:>{w}}" for text, w in zip(line[1:], rest, strict=True))
        + " |"
        for line in lines
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def arguments(doc: str, examples: str) -> argparse.ArgumentParser:
    """The command line that all benches share."""
    parser = argparse.ArgumentParser(
        description=doc,
        epilog=f"examples:\n{examples}\n\nRun from the root of the repository.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a short run, for a first look")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser


def machine() -> str:
    """When and on what the figures were taken."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}, {name}, {psutil.cpu_count()} cores, Python {platform.python_version()}"


def say(options: argparse.Namespace, *text: str) -> None:
    """Text for people, unless a machine reads."""
    if not options.json:
        print(*text, sep="\n", flush=True)


def as_json(figures: object) -> str:
    """Figures that are not there (NaN) become null."""
    return orjson.dumps({"machine": machine(), "figures": figures}, option=JSON).decode()
