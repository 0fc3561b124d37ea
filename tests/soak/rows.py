"""The rows of a soak: each loads a server of its own for a while, and returns what it did."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.soak.load import Through, producer, retained, speakers
from tests.support.broker import Broker, MqttProxy
from tests.support.clients import Client, connect, stream
from tests.support.history_outage import outage as database_outage
from tests.support.postgres import Postgres
from tests.support.posting import send
from tests.support.running import Server
from tests.support.tcp_proxy import TcpProxy
from tests.support.utterances import CLIPS, talk
from tests.support.webhook_outage import outage

VISIT_S = 0.5
"""Shortest time from one session of a visitor to the next: without it most sessions leave at once,
and the model is so far behind that a close waits for half a minute."""
SILENT_STREAMS, SILENT_S = 100, 3600
AHEAD_S = 60
"""Seconds of silence that a stream sends before they are acknowledged."""
RETURNING = 300
CALLERS = 100
"""Streams whose calls go to the history."""
RESETS = ("failed to receive on socket", "failed to send on socket")
"""Errors of the MQTT library about a connection that is reset."""
NO_MQTT_5 = b"\x20\x02\x00\x01"
"""CONNACK of a broker that knows MQTT 3.1.1 only (MQTT 3.1.1, 3.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its name, share of the time, the server's arguments and model, and its load.

    `run` gets the server and the seconds it has; it returns a text about its work, and problems.
    """

    name: str
    share: float
    run: Callable[[Server, float], Coroutine[None, None, tuple[str, list[str]]]]
    args: tuple[str, ...] = ()
    model: str = "tests.support.plugins:fast"
    expected: tuple[str, ...] = ()
    """Beginnings of errors in the log that the row provokes."""


def settings(*pairs: str) -> tuple[str, ...]:
    """Return `--set` options."""
    return tuple(itertools.chain.from_iterable(("--set", pair) for pair in pairs))


async def churn(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Run short sessions, eight at a time, that end in every way."""
    end = time.monotonic() + seconds
    done = 0
    data = talk(1.0)

    async def visit(number: int) -> None:
        async with stream(server, stream_id=f"churn-{number}") as client:
            client.checks = False
            await client.audio(data, 16_000)
            match number % 4:
                case 0:
                    await client.close_session(30)
                case 1:
                    await client.socket.close()
                case 2:
                    await client.abort()
                case _:
                    await client.text("{")
                    await client.socket.close(1001)

    async def visitor(first: int) -> None:
        nonlocal done
        for number in itertools.count(first, 8):
            began = time.monotonic()
            if began > end:
                return
            await visit(number)
            done += 1
            await asyncio.sleep(max(0.0, began + VISIT_S - time.monotonic()))

    await asyncio.gather(*(visitor(first) for first in range(8)))
    ended = 0.0
    for _ in range(30):  # those that only lost their connection are detached for a second
        ended = await asyncio.to_thread(server.metric, "emotide_sessions_total")
        if ended >= done:
            return f"{done} sessions", []
        await asyncio.sleep(0.5)
    return f"{done} sessions", [f"only {ended:.0f} ended"]


def _received_s(client: Client) -> float:
    """Return the seconds of audio at 8 kHz that the server has acknowledged."""
    acks = client.of("audio.ack")
    return acks[-1]["received_samples"] / 8000 if acks else 0.0


async def silence(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Send an hour of silence on 100 streams, as fast as the server reads (`limits.ahead_s`)."""
    end = time.monotonic() + seconds
    second = bytes([0xFF, 0x7F] * 4000)  # mu-law: the two codes of zero
    sent = [0] * SILENT_STREAMS
    async with AsyncExitStack() as stack:
        clients = [
            await producer(server, stack, sample_rate=8000, encoding="mulaw", stream_id=f"q{n}")
            for n in range(SILENT_STREAMS)
        ]

        async def be_silent(number: int) -> None:
            client = clients[number]
            while sent[number] < SILENT_S and time.monotonic() < end:
                if sent[number] - _received_s(client) >= AHEAD_S:
                    await asyncio.sleep(0.05)  # otherwise minutes of it wait in the kernel
                    continue
                await client.socket.send(second)
                sent[number] += 1
                del client.events[:-50], client.times[:-50]

        await asyncio.gather(*map(be_silent, range(SILENT_STREAMS)))
        closed = await asyncio.gather(*(client.close_session(120) for client in clients))
    wrong = []
    if any(c["totals"]["audio_ms"] != 1000 * s for c, s in zip(closed, sent, strict=True)):
        wrong.append("positions differ from what was sent")
    if any(c["totals"]["speech_ms"] for c in closed):
        wrong.append("silence was taken for speech")
    return f"{SILENT_STREAMS} streams of {min(sent)} s", wrong


async def newest_after(port: int, count: int) -> list[str]:
    """Return a problem unless the broker gets a newer score of each live stream in time."""
    topics = "emotide/stream/+/+/score"

    def newest(scores: Mapping[str, dict[str, Any]]) -> dict[str, int]:
        # The topic of a stream that has ended, of the row before, says that only.
        return {topic: score.get("audio_ms", -1) for topic, score in scores.items()}

    first = newest(await retained(port, topics))
    deadline = time.monotonic() + 40
    fresh: set[str] = set()
    while time.monotonic() < deadline and len(fresh) < count:
        for topic, end_ms in newest(await retained(port, topics)).items():
            if end_ms > first.get(topic, -1):
                fresh.add(topic)
    missing = count - len(fresh)
    return [f"{missing} of {count} streams have no new score at the broker"] if missing > 0 else []


async def broker_away(made: Brokers, server: Server, seconds: float) -> tuple[str, list[str]]:
    """Let the broker be away for most of the time, then return."""
    broker, proxy = made.broker, made.proxy
    away = max(5.0, seconds - 60)
    async with speakers(server, 10, time.monotonic() + seconds + 45) as clients:
        await asyncio.sleep(5)
        wrong = await newest_after(broker.port, len(clients))
        before = proxy.accepted
        proxy.refusing = True
        proxy.reset()
        await asyncio.sleep(away)
        attempts = proxy.accepted - before
        proxy.refusing = False
        wrong += await newest_after(broker.port, len(clients))
    if attempts > 10 + away:
        wrong.append(f"{attempts} attempts to connect in {away:.0f} s")
    return f"away for {away:.0f} s, {attempts} attempts", wrong


async def mqtt_311(made: Brokers, server: Server, seconds: float) -> tuple[str, list[str]]:
    """Break and stall the connection to a broker without MQTT 5 every few seconds."""
    broker, proxy = made.broker, made.old
    end = time.monotonic() + seconds
    breaks = 0
    async with speakers(server, 10, end + 45) as clients:
        while time.monotonic() < end - 5:
            await asyncio.sleep(2)
            proxy.up.stalled = True
            await asyncio.sleep(1)
            proxy.up.stalled = False
            if breaks % 2:
                proxy.reset()
            breaks += 1
        wrong = await newest_after(broker.port, len(clients))
    if not proxy.refused:
        wrong.append("MQTT 5 was never tried")
    return f"{breaks} stalls, {breaks // 2} breaks", wrong


async def half_open(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Let ten producers at a time vanish without FIN or RST, again and again."""
    end = time.monotonic() + seconds
    rounds, wrong = 0, []
    while time.monotonic() < end:
        before = server.fds()
        async with TcpProxy(server.port) as proxy, AsyncExitStack() as stack:
            for _ in range(10):
                await (await producer(Through(proxy.port), stack)).audio(talk(1.0))
            proxy.stall()
            deadline = time.monotonic() + 20
            while server.fds() > before + 2:
                if time.monotonic() > deadline:
                    wrong.append(f"round {rounds}: {server.fds() - before} sockets are still open")
                    break
                await asyncio.sleep(0.2)
            proxy.reset()
        rounds += 1
    return f"{10 * rounds} peers vanished", wrong[:3]


async def returning(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Reset the connections of 300 producers at once, and let all of them return at once."""
    end = time.monotonic() + seconds
    slowest, rounds = 0.0, 0
    async with TcpProxy(server.port) as proxy, AsyncExitStack() as stack:
        through = Through(proxy.port)
        clients = [await producer(through, stack) for _ in range(RETURNING)]
        tokens = [client.token for client in clients]

        async def resume(token: str, last: int) -> Client:
            query = {"resume": token, "last_seq": last}
            again = await stack.enter_async_context(
                connect(through, query=query, ping_interval=None)
            )
            again.checks = False
            await again.until("session.resumed", timeout=60)
            return again

        while time.monotonic() < end or not rounds:
            for client in clients:
                await client.socket.send(talk(0.2))
            proxy.reset()
            await asyncio.gather(*(client.reader for client in clients))
            last = [client.events[-1]["seq"] for client in clients]
            began = time.monotonic()
            found = await asyncio.gather(*map(resume, tokens, last), return_exceptions=True)
            clients = [client for client in found if isinstance(client, Client)]
            if len(clients) < RETURNING:
                error = next(x for x in found if isinstance(x, BaseException))
                return "", [f"{RETURNING - len(clients)} did not return: {error!r}"[:200]]
            slowest = max(slowest, time.monotonic() - began)
            rounds += 1
        for client in clients:
            await client.close_session(60)
    return f"{rounds} times {RETURNING}, slowest {slowest:.1f} s", []


async def slow_disk(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Send recordings to a server with a slow disk beside live calls."""
    end = time.monotonic() + seconds
    data = (CLIPS / "03a01Wa.flac").read_bytes()
    done, wrong = 0, []
    async with speakers(server, 5, end + 2) as clients:
        while time.monotonic() < end:
            answer = await asyncio.to_thread(send, server, "POST", "/v1/files?wait=60", data)
            if answer.status != 200:
                wrong.append(f"HTTP {answer.status}: {answer.body}")
                break
            done += 1
        gaps = sum(len(client.of("stream.gap")) for client in clients)
    if gaps:
        wrong.append(f"{gaps} gaps in live calls")
    return f"{done} recordings", wrong


async def receiver_away(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Let a webhook's receiver be away, and kill the server that raises alerts meanwhile.

    That is another server than the one whose memory is watched. After ten minutes the pause between
    two attempts is up to five minutes long.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = await outage(seconds, min(400.0, 30 + seconds), Path(folder))
    wrong = [f"{len(found.lost)} alerts lost"] if found.lost else []
    if found.out_of_order:
        wrong.append(f"{found.out_of_order} alerts out of order")
    work = f"{found.raised} alerts, receiver away for {seconds:.0f} s, all there"
    return f"{work} {found.took_s:.0f} s after its return", wrong


async def database_away(server: Server, seconds: float) -> tuple[str, list[str]]:
    """Let the history's database be away under 100 streams, and kill the server meanwhile.

    That is another server than the one whose memory is watched.
    """
    with tempfile.TemporaryDirectory() as folder, Postgres() as database:
        found = await database_outage(seconds, CALLERS, 120 + seconds / 2, database, Path(folder))
    wrong = [f"{len(found.missing)} calls missing"] if found.missing else []
    if found.twice:
        wrong.append(f"{len(found.twice)} calls twice")
    work = f"{found.ended} calls and {found.cut_off} cut off, database away for {seconds:.0f} s"
    if found.late:
        work += f", {len(found.late)} of the moment before the kill lost"
    return f"{work}, all there {found.took_s:.0f} s after its return", wrong


@dataclass(frozen=True, slots=True)
class Brokers:
    """A real broker, a proxy that can hide it, and one behind which it knows MQTT 3.1.1 only."""

    broker: Broker
    proxy: TcpProxy
    old: MqttProxy


@contextlib.asynccontextmanager
async def brokers() -> AsyncIterator[Brokers]:
    """Start a broker and its proxies for the duration of the block."""
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        async with TcpProxy(broker.port) as proxy, MqttProxy(broker.port, NO_MQTT_5) as old:
            yield Brokers(broker, proxy, old)


def rows(made: Brokers) -> list[Row]:
    """Return all rows; their shares add up to 40, the minutes of a full run."""

    def mqtt(port: int) -> tuple[str, ...]:
        return settings("mqtt.host=127.0.0.1", f"mqtt.port={port}")

    short = settings("limits.resume_s=2", "limits.idle_timeout_s=2")
    return [
        Row("churn", 7, churn, settings("limits.resume_s=1"), "embedded"),
        # A stream that has sent its hour waits for the slowest one.
        Row(
            "silence",
            5,
            silence,
            settings("limits.ahead_s=1000000", "limits.idle_timeout_s=600"),
            "embedded",
        ),
        Row("broker away", 6, partial(broker_away, made), mqtt(made.proxy.port), expected=RESETS),
        Row(
            "MQTT 3.1.1 under fire",
            3,
            partial(mqtt_311, made),
            mqtt(made.old.port),
            # The server cannot tell these breaks from those that another server causes.
            expected=(*RESETS, "MQTT connections keep ending"),
        ),
        Row("half-open peers", 2.5, half_open, short),
        Row("300 return at once", 2.5, returning, settings("limits.idle_timeout_s=600")),
        Row("slow disk", 2, slow_disk, (), "tests.soak.slow_disk:backend"),
        Row("webhook receiver away", 8, receiver_away),
        Row("history database away", 4, database_away),
    ]
