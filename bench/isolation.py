"""Effect of one misbehaving client on the others, compared with quiet rounds of the same run.

  deaf subscribers  connections that subscribe to all events, with a stream that sends many, and
                    never read
  audio flood       a producer that sends audio as fast as the socket accepts it
  tiny messages     a producer that sends one sample per message, as fast as possible
  text flood        a producer that sends only keepalives, as fast as possible
  greedy tenant     ten times as many streams of another tenant, all in real time
  greedy key        the same within the tenant of the measured streams, for comparison: no turns
  blocked model     inference hangs for --block seconds, then continues

Quiet and noisy rounds alternate while the same streams continue, so that other load on the machine
affects both. p95 is from the end of a window's audio to its score at a subscriber; pongs are the
responses to pings on the connections of a stream and of the subscriber. The blocked model delays
all scores by design: its row compares the scores before and after, and the pongs in between.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from bench.load import WARM_UP_S, Load, Producer, ScoreSubscriber, make_producers
from bench.process import Server
from bench.report import arguments, as_json, machine, percentile, print_text
from bench.speech import Wire, frames, recordings
from bench.tables import table
from stream.server.access.auth import make_key

SETTLE_S = 2.0
PING_EVERY_S = 0.1
DEAF = 10

EXAMPLES = """\
  python -m bench.isolation                        all scenarios, about four minutes
  python -m bench.isolation --quick                the same in about one minute
  python -m bench.isolation --only "text flood" --rounds 5
  python -m bench.isolation --backend bench.stand_ins:null_backend     without a model"""

Row = dict[str, object]
Noise = Callable[[Server], AbstractAsyncContextManager[object]]


class Probe:
    """Continuous pings on some connections."""

    def __init__(self, *connections: ClientConnection) -> None:
        self.pongs: list[tuple[float, float]] = []
        """Time of each ping, in monotonic seconds, and the milliseconds until its pong."""
        self._tasks = [asyncio.create_task(self._run(c)) for c in connections]

    async def _run(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                sent = time.monotonic()
                await (await connection.ping())
                self.pongs.append((sent, (time.monotonic() - sent) * 1000))
                await asyncio.sleep(PING_EVERY_S)

    def between(self, rounds: Sequence[tuple[float, float]]) -> list[float]:
        """Return the latencies, in ms, of the pings sent during the rounds."""
        return [ms for at, ms in self.pongs if any(a <= at < b for a, b in rounds)]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def running(task: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel the task at the end of the block."""
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def deaf_subscribers(server: Server) -> AsyncIterator[None]:
    """Connect subscribers that never read, and a stream with many large events."""
    producer = Producer("annotator", [], 0)
    await producer.open(server, Wire())
    address = urlsplit(server.ws)
    connections = []
    for _ in range(DEAF):
        # A small receive buffer fills the server's send buffer within the round.
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect((address.hostname, address.port))
        url = f"{server.ws}/v1/subscribe"
        connection = await connect(url, sock=small, compression=None, proxy=None)
        message = {"type": "subscribe", "filter": {"streams": ["*"]}}
        await connection.send(orjson.dumps(message), text=True)
        await connection.recv()
        connection.transport.pause_reading()
        connections.append(connection)
    annotation = orjson.dumps({"type": "session.annotate", "attrs": {"note": "x" * 20_000}})

    async def annotate() -> None:
        while True:
            await producer.socket.send(annotation, text=True)
            await asyncio.sleep(0.05)

    async with running(asyncio.create_task(annotate())):
        yield
    for connection in connections:
        connection.transport.abort()
    await producer.close()


@asynccontextmanager
async def flood(server: Server, wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Write `data` (whole WebSocket frames) as fast as the server reads."""
    producer = Producer("flood", [], 0)
    await producer.open(server, wire)

    async def pour() -> None:
        transport = producer.socket.transport
        while not transport.is_closing():
            if transport.get_write_buffer_size() < len(data):
                transport.write(data)
            await asyncio.sleep(0.001)

    async with running(asyncio.create_task(pour())):
        yield
    # Abort: a normal close would wait until the server has read all buffered data.
    producer.socket.transport.abort()
    with contextlib.suppress(ConnectionClosed):
        await producer.close()


def audio_flood(server: Server) -> AbstractAsyncContextManager[None]:
    wire = Wire("linear16", 16_000, 20)
    chunks = frames(wire.chunks(recordings(wire.sample_rate)[0])[:500])
    return flood(server, wire, b"".join(chunks))


def tiny_messages(server: Server) -> AbstractAsyncContextManager[None]:
    one = Frame(Opcode.BINARY, b"\0\0").serialize(mask=True)
    return flood(server, Wire("linear16", 16_000, 20), one * 40_000)


def text_flood(server: Server) -> AbstractAsyncContextManager[None]:
    one = Frame(Opcode.TEXT, b'{"type":"keepalive"}').serialize(mask=True)
    return flood(server, Wire(), one * 10_000)


NOISES: dict[str, Noise] = {
    "deaf subscribers": deaf_subscribers,
    "audio flood": audio_flood,
    "tiny messages": tiny_messages,
    "text flood": text_flood,
}
BLOCKED = "blocked model"
GREEDY = {"greedy tenant": "greedy", "greedy key": "calm"}
"""Scenario → tenant of the key with many streams; that of the others is calm."""

TIMES = 10
"""Streams of the greedy tenant for each one that is measured."""

KEYS = {name: make_key() for name in ("calm", "greedy")}
"""Keys of the two tenants, with their hashes."""


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


def two_keys(streams: int, tenant: str) -> dict[str, object]:
    """Return settings of a server with a calm key and a greedy one, which is of `tenant`.

    Both may have all the streams they want.
    """
    quota = f"quota = {{sessions = {TIMES * streams}}}"
    tenants = {"calm": "calm", "greedy": tenant}
    tables = (
        f'{name} = {{sha256 = "{KEYS[name][1]}", tenant = "{of}", {quota}}}'
        for name, of in tenants.items()
    )
    most = (TIMES + 1) * streams
    quotas = (f"{name} = {{sessions = {most}}}" for name in sorted(set(tenants.values())))
    return {
        "auth.keys": f"{{{', '.join(tables)}}}",
        "auth.quotas": f"{{{', '.join(quotas)}}}",
        "limits.max_sessions": most,
    }


SCENARIOS = [*NOISES, *GREEDY, BLOCKED]


@asynccontextmanager
async def greedy_streams(
    server: Server, recorded: Sequence[list[bytes]], streams: int
) -> AsyncIterator[None]:
    """Play `streams` streams of the other key."""
    producers = make_producers(streams, recorded, "greedy")
    for producer in producers.values():
        producer.headers = bearer("greedy")
    load = Load(server, producers, Wire())
    await load.start()
    await asyncio.sleep(WARM_UP_S)
    yield
    await load.stop()


async def alternate(
    server: Server, noise: Noise, rounds: int, seconds: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Alternate quiet and noisy rounds; return the times of both."""
    quiet, noisy = [], []
    for _ in range(rounds):
        quiet.append(await _round(seconds))
        async with noise(server):
            noisy.append(await _round(seconds))
        await asyncio.sleep(SETTLE_S)
    return quiet, noisy


async def _round(seconds: float) -> tuple[float, float]:
    since = time.monotonic()
    await asyncio.sleep(seconds)
    return since, time.monotonic()


def _latencies(subscriber: ScoreSubscriber, rounds: Sequence[tuple[float, float]]) -> list[float]:
    return [ms for since, until in rounds for ms in subscriber.latencies(since, until)]


async def scenario(options: argparse.Namespace, name: str, recorded: Sequence[list[bytes]]) -> Row:
    """Return one row. Uses a new server, so that no earlier flood affects the quiet rounds."""
    seconds = options.seconds or (5 if options.quick else 10)
    rounds = options.rounds or (1 if options.quick else 2)
    wire = Wire()
    with tempfile.TemporaryDirectory() as folder:
        block = Path(folder) / "block"
        environ = {"BENCH_MODEL": options.backend, "BENCH_BLOCK": str(block)}
        settings = two_keys(options.streams, GREEDY[name]) if name in GREEDY else {}
        with Server("bench.stand_ins:blocking_backend", settings, environ) as server:
            server.headers = bearer("calm") if name in GREEDY else {}
            load = Load(server, make_producers(options.streams, recorded), wire)
            subscriber = ScoreSubscriber(load.producers, wire.chunk_ms)
            await subscriber.open(server)
            await load.start()
            probe = Probe(next(iter(load.producers.values())).socket, subscriber.socket)
            await asyncio.sleep(WARM_UP_S)
            if name == BLOCKED:
                quiet = [await _round(seconds)]
                block.touch()
                loaded = [await _round(options.block)]
                block.unlink()
                await asyncio.sleep(SETTLE_S)
                noisy = [await _round(seconds)]
            else:
                noise = NOISES.get(name) or partial(
                    greedy_streams, recorded=recorded, streams=TIMES * options.streams
                )
                quiet, noisy = await alternate(server, noise, rounds, seconds)
                loaded = noisy
            cut = sum(p.close_reason is not None for p in load.producers.values())
            rss_mb = server.rss_mb()
            probe.close()
            await load.stop()
            await subscriber.close()
    quiet_ms, noisy_ms = _latencies(subscriber, quiet), _latencies(subscriber, noisy)
    each = [percentile(_latencies(subscriber, [one]), 95) for one in quiet]
    pongs, quiet_pongs = probe.between(loaded), probe.between(quiet)
    return {
        "scenario": name,
        "quiet_p95_ms": percentile(quiet_ms, 95),
        "noisy_p95_ms": percentile(noisy_ms, 95),
        "ratio": percentile(noisy_ms, 95) / percentile(quiet_ms, 95),
        "ratio_p50": percentile(noisy_ms, 50) / percentile(quiet_ms, 50),
        "quiet_spread": max(each) / min(each),
        "scores": f"{len(quiet_ms)}/{len(noisy_ms)}",
        "dropped_ms": load.total("dropped_ms"),
        "cut": cut,
        "pongs": len(pongs),
        "pong_quiet_max_ms": max(quiet_pongs, default=float("nan")),
        "pong_p95_ms": percentile(pongs, 95),
        "pong_max_ms": max(pongs, default=float("nan")),
        "rss_mb": rss_mb,
    }


async def main(options: argparse.Namespace) -> None:
    wire = Wire()
    recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
    print_text(options, machine(), f"{options.backend}, {options.streams} streams, {wire}", "")
    results = [await scenario(options, n, recorded) for n in options.only or SCENARIOS]
    if options.json:
        print(as_json(results))
        return
    print(table(list(results[0]), [list(row.values()) for row in results]))
    print("\nquiet_spread: slowest / fastest quiet round; smaller ratios are not significant.")
    print("cut: streams whose connection the server closed during the rounds.")


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--streams", type=int, default=10, help="measured streams (default: 10)")
    parser.add_argument("--rounds", type=int, help="quiet and noisy rounds each (default: 2)")
    parser.add_argument("--seconds", type=float, help="length of a round (default: 10)")
    parser.add_argument("--block", type=float, default=10.0, help="seconds that the model hangs")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="may be repeated")
    asyncio.run(main(parser.parse_args()))
