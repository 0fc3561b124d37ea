"""Whether one bad peer hurts the others: each scenario against quiet rounds of the same run.

  deaf subscribers  connections that ask for everything, from a stream that talks a lot, and
                    never read
  audio flood       a producer that sends audio as fast as the socket takes it
  tiny messages     a producer that sends its audio one sample a message, as fast as it can
  text flood        a producer that sends nothing but keepalives, as fast as it can
  blocked model     inference hangs for --block seconds, then goes on

Quiet and noisy rounds alternate while the same streams play on, so that a machine that is busy with
other things shows in both. p95 is from the end of a window's audio to its score at a subscriber;
pongs are answers to pings on a stream's and the subscriber's connection. The blocked model hurts
everybody's scores by nature: its row compares what comes before and after, and the pongs of the
time in between.
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
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from bench.load import WARM_UP_S, Listener, Load, Producer, cast
from bench.process import Server
from bench.report import arguments, as_json, machine, percentile, say
from bench.speech import Wire, frames, recordings
from bench.tables import table

SETTLE_S = 2.0
PING_EVERY_S = 0.1
DEAF = 10

EXAMPLES = """\
  python -m bench.isolation                        all scenarios, about four minutes
  python -m bench.isolation --quick                the same in about one
  python -m bench.isolation --only "text flood" --rounds 5
  python -m bench.isolation --backend bench.stand_ins:null_backend     without a model's load"""

Row = dict[str, object]
Noise = Callable[[Server], AbstractAsyncContextManager[object]]


class Probe:
    """Pings a connection all the time."""

    def __init__(self, *connections: ClientConnection) -> None:
        self.pongs: list[tuple[float, float]] = []
        """When each ping was sent, and the milliseconds until its pong."""
        self._tasks = [asyncio.create_task(self._run(c)) for c in connections]

    async def _run(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                sent = time.monotonic()
                await (await connection.ping())
                self.pongs.append((sent, (time.monotonic() - sent) * 1000))
                await asyncio.sleep(PING_EVERY_S)

    def between(self, rounds: Sequence[tuple[float, float]]) -> list[float]:
        return [ms for at, ms in self.pongs if any(a <= at < b for a, b in rounds)]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def playing(task: asyncio.Task[None]) -> AsyncIterator[None]:
    """Run a task for as long as the block lasts."""
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def deaf(server: Server) -> AsyncIterator[None]:
    chatty = Producer("chatty", [], 0)
    await chatty.open(server, Wire())
    address = urlsplit(server.ws)
    connections = []
    for _ in range(DEAF):
        # A small window makes the server's side fill up within the round.
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect((address.hostname, address.port))
        url = f"{server.ws}/v1/subscribe"
        connection = await connect(url, sock=narrow, compression=None, proxy=None)
        wanted = {"type": "subscribe", "filter": {"streams": ["*"]}}
        await connection.send(orjson.dumps(wanted), text=True)
        await connection.recv()
        connection.transport.pause_reading()
        connections.append(connection)
    note = orjson.dumps({"type": "session.annotate", "attrs": {"note": "x" * 20_000}})

    async def talk() -> None:
        while True:
            await chatty.socket.send(note, text=True)
            await asyncio.sleep(0.05)

    async with playing(asyncio.create_task(talk())):
        yield
    for connection in connections:
        connection.transport.abort()
    await chatty.close()


@asynccontextmanager
async def flood(server: Server, wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Write `data`, whole WebSocket frames, as fast as the server reads."""
    producer = Producer("flood", [], 0)
    await producer.open(server, wire)

    async def pour() -> None:
        transport = producer.socket.transport
        while not transport.is_closing():
            if transport.get_write_buffer_size() < len(data):
                transport.write(data)
            await asyncio.sleep(0.001)

    async with playing(asyncio.create_task(pour())):
        yield
    # What it has sent would be read for a long time yet.
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
    "deaf subscribers": deaf,
    "audio flood": audio_flood,
    "tiny messages": tiny_messages,
    "text flood": text_flood,
}
BLOCKED = "blocked model"


async def noisy(
    server: Server, noise: Noise, rounds: int, seconds: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Alternate; returns the times of the quiet and of the noisy rounds."""
    quiet, loud = [], []
    for _ in range(rounds):
        quiet.append(await _round(seconds))
        async with noise(server):
            loud.append(await _round(seconds))
        await asyncio.sleep(SETTLE_S)
    return quiet, loud


async def _round(seconds: float) -> tuple[float, float]:
    since = time.monotonic()
    await asyncio.sleep(seconds)
    return since, time.monotonic()


def _heard(listener: Listener, rounds: Sequence[tuple[float, float]]) -> list[float]:
    return [ms for since, until in rounds for ms in listener.latencies(since, until)]


async def scenario(options: argparse.Namespace, name: str, recorded: Sequence[list[bytes]]) -> Row:
    """One row, on a server of its own: what a flood leaves behind must not be read as quiet."""
    seconds = options.seconds or (5 if options.quick else 10)
    rounds = options.rounds or (1 if options.quick else 2)
    wire = Wire()
    with tempfile.TemporaryDirectory() as folder:
        block = Path(folder) / "block"
        environ = {"BENCH_MODEL": options.backend, "BENCH_BLOCK": str(block)}
        with Server("bench.stand_ins:blocking_backend", environ=environ) as server:
            load = Load(server, cast(options.streams, recorded), wire)
            listener = Listener(load.producers, wire.chunk_ms)
            await listener.open(server)
            await load.start()
            probe = Probe(next(iter(load.producers.values())).socket, listener.socket)
            await asyncio.sleep(WARM_UP_S)
            if name == BLOCKED:
                quiet = [await _round(seconds)]
                block.touch()
                meanwhile = [await _round(options.block)]
                block.unlink()
                await asyncio.sleep(SETTLE_S)
                loud = [await _round(seconds)]
            else:
                quiet, loud = await noisy(server, NOISES[name], rounds, seconds)
                meanwhile = loud
            cut = sum(p.cut is not None for p in load.producers.values())
            rss_mb = server.rss_mb()
            probe.close()
            await load.stop()
            await listener.close()
    alone, beside = _heard(listener, quiet), _heard(listener, loud)
    each = [percentile(_heard(listener, [one]), 95) for one in quiet]
    pongs, pongs_alone = probe.between(meanwhile), probe.between(quiet)
    return {
        "scenario": name,
        "quiet_p95_ms": percentile(alone, 95),
        "noisy_p95_ms": percentile(beside, 95),
        "ratio": percentile(beside, 95) / percentile(alone, 95),
        "ratio_p50": percentile(beside, 50) / percentile(alone, 50),
        "quiet_spread": max(each) / min(each),
        "scores": f"{len(alone)}/{len(beside)}",
        "dropped_ms": load.total("dropped_ms"),
        "cut": cut,
        "pongs": len(pongs),
        "pong_quiet_max_ms": max(pongs_alone, default=float("nan")),
        "pong_p95_ms": percentile(pongs, 95),
        "pong_max_ms": max(pongs, default=float("nan")),
        "rss_mb": rss_mb,
    }


async def main(options: argparse.Namespace) -> None:
    wire = Wire()
    recorded = [frames(wire.chunks(pcm)) for pcm in recordings(wire.sample_rate)]
    say(options, machine(), f"{options.backend}, {options.streams} streams, {wire}", "")
    results = [await scenario(options, n, recorded) for n in options.only or [*NOISES, BLOCKED]]
    if options.json:
        print(as_json(results))
        return
    print(table(list(results[0]), [list(row.values()) for row in results]))
    print("\nquiet_spread: slowest over fastest quiet round; no ratio below it means anything.")
    print("cut: streams whose connection the server ended meanwhile.")


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--backend", default="embedded", help="the server's --model")
    parser.add_argument("--streams", type=int, default=10, help="that play on (default: 10)")
    parser.add_argument("--rounds", type=int, help="quiet and noisy ones each (default: 2)")
    parser.add_argument("--seconds", type=float, help="length of a round (default: 10)")
    parser.add_argument("--block", type=float, default=10.0, help="seconds that the model hangs")
    parser.add_argument(
        "--only", action="append", choices=[*NOISES, BLOCKED], help="may be repeated"
    )
    asyncio.run(main(parser.parse_args()))
