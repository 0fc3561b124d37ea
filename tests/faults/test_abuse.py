"""Slow, silent, greedy or numerous clients: each is limited, and others are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.clients import Client, connect, stream
from tests.support.running import Server, running_server
from tests.support.utterances import encode, speech, talk

MIB = 1_048_576


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    limits = ("start_timeout_s=0.5", "idle_timeout_s=0.8", "max_sessions=2", "resume_s=0.3")
    with running_server(*(x for limit in limits for x in ("--set", f"limits.{limit}"))) as running:
        yield running


async def latency(server: Server, seconds: float = 2.2) -> int:
    """Run a stream in real time; return the highest latency of its scores, in ms."""
    async with stream(server) as call:
        await call.audio(talk(seconds), 3200, 0.1)
        await call.close_session()
        return max(int(event["latency_ms"]) for event in call.of("emotion.score"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(server: Server) -> int:
    """Latency without other clients, in ms."""
    return await latency(server)


async def wait_until_empty(server: Server, timeout: float = 3.0) -> None:
    deadline = time.monotonic() + timeout
    while (await asyncio.to_thread(server.json, "/v1/streams"))["streams"]:
        assert time.monotonic() < deadline, server.json("/v1/streams")
        await asyncio.sleep(0.05)


async def test_slowloris_does_not_delay_a_stream(server: Server, alone: int) -> None:
    """A hundred connections send their handshakes byte by byte."""

    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(100)
        ]
        for sock in connections:
            sock.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-")

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.3)
                for sock in connections:
                    sock.send(b"a")

        dripping = asyncio.create_task(drip())
        beside = await latency(server)
        dripping.cancel()
        assert server.get("/readyz")[0] == 200
    assert beside < alone + 200


async def test_a_connection_without_a_message_is_closed(impatient: Server) -> None:
    before = time.monotonic()
    async with connect(impatient) as client:
        error = await client.until("error", timeout=3)
        assert (error["code"], error["fatal"]) == ("start_timeout", True)
        assert await client.closed() == 4408
        assert 0.4 < time.monotonic() - before < 2


async def test_an_idle_stream_is_detached_and_can_reattach(impatient: Server) -> None:
    async with stream(impatient) as client:
        await client.audio(talk(1.2))
        before = time.monotonic()
        error = await client.until("error", timeout=4)
        assert (error["code"], error["fatal"]) == ("idle_timeout", True)
        assert await client.closed() == 4408
        assert 0.6 < time.monotonic() - before < 2.5
    # A network that failed silently looks the same, so the producer may reattach.
    async with connect(impatient, query={"resume": client.token}) as again:
        await again.until("session.resumed")
        closed = await again.close_session()
        assert closed["totals"]["segments"] == 1, "the tail must be scored"
    await wait_until_empty(impatient)


async def test_a_stream_above_max_sessions_is_refused(impatient: Server) -> None:
    await wait_until_empty(impatient)
    async with stream(impatient) as one, stream(impatient) as two:
        await one.until("session.created")
        await two.until("session.created")
        with pytest.raises(InvalidStatus) as refused:
            async with stream(impatient):
                pass
        response = refused.value.response
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert b"max_sessions" in (response.body or b"")
        assert impatient.get("/readyz")[0] == 200
        await one.close_session()
        async with stream(impatient) as third:
            await third.until("session.created")
            await third.close_session()
        await two.close_session()


async def test_max_sessions_applies_to_connections_without_a_session(impatient: Server) -> None:
    """The upgrade checked sessions only, so connections that configured later were all accepted."""

    await wait_until_empty(impatient)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(impatient)) for _ in range(4)]
        for client in clients:
            await client.send("session.update", session={})
        for client in clients:
            await client.until(lambda e: e["type"] in ("session.updated", "error"))
        accepted = [client for client in clients if client.of("session.updated")]
        assert len(accepted) <= 2, "limits.max_sessions is 2"
        for client in clients:
            if client not in accepted:
                assert client.of("error")[0]["code"] == "overloaded"
                assert await client.closed() == 1013


async def test_a_flood_is_throttled(server: Server, alone: int) -> None:
    """Sixty seconds of audio at once are read at once, and no more than catches up is analysed.

    They wait in bounded memory, so that pings behind them are answered; other streams are not
    delayed.
    """

    memory = server.rss()
    async with stream(server) as flood:
        data = talk(60.0)
        sending = asyncio.create_task(flood.audio(data, 64_000))
        beside = await latency(server)
        ack = await flood.until("audio.ack")
        assert ack["processed_ms"] < 5_000 + 22_000 * 1.5
        assert server.rss() - memory < 20 * MIB
        assert beside < alone + 200
        sending.cancel()
        await asyncio.wait([sending])


async def test_large_annotations_do_not_fill_the_memory(server: Server) -> None:
    """The replay buffer of a stream was limited in events, not in bytes.

    Sixty annotations of 900 kB took 60 MiB; a thousand would take a gigabyte in one stream. Now
    they are refused, and a thousand of the largest permitted ones take less than 20 MiB.
    """

    async with stream(server) as client:
        await client.until("session.created")
        await client.send("session.annotate", attrs={"note": "x" * 900_000})
        assert (await client.until("error"))["code"] == "invalid_message"
        note = "x" * 8_000
        memory = server.rss()
        for _ in range(1_100):
            await client.send("session.annotate", attrs={"note": note})
        await client.send("session.annotate", mark="done")
        await client.until(lambda e: e.get("mark") == "done")
        grown = server.rss() - memory
        await client.close_session()
        assert grown < 20 * MIB, f"{grown / MIB:.0f} MiB"


async def test_a_producer_that_never_reads_is_still_analysed(server: Server) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    query = {"sample_rate": 16000, "stream_id": "unread", "frames": "true", "interval_ms": 250}
    async with connect(server, query=query, sock=sock) as client:
        await client.until("session.created")
        client.socket.transport.pause_reading()
        for number in range(800):  # 4 MB of events that are never read
            await client.send("session.annotate", attrs={"note": "x" * 5000, "n": number})
        await client.audio(talk(4.0), 3200, 0.05)
        shown = server.json("/v1/streams/unread")
        assert shown["last"][0]["audio_end_ms"] > 3000
        assert await latency(server, 1.5) < 1000


async def test_short_streams_leave_no_resources() -> None:
    """After 200 short streams, ended in every way, no session, task or descriptor is left."""

    async def one(server: Server, number: int) -> None:
        async with stream(server, stream_id=f"churn-{number}") as client:
            await client.audio(talk(0.6))
            if number % 4 == 0:
                await client.close_session()
            elif number % 4 == 1:
                await client.socket.close()
            elif number % 4 == 2:
                await client.abort()
            else:
                await client.text("{")
                await client.socket.close(1001)

    async def many(server: Server, first: int, count: int) -> None:
        for start in range(first, first + count, 8):
            await asyncio.gather(*(one(server, n) for n in range(start, start + 8)))
        await wait_until_empty(server)

    with running_server("--set", "limits.resume_s=0.2") as server:
        await many(server, 0, 40)
        fds, memory = server.fds(), server.rss()
        await many(server, 40, 200)

        assert server.metric("emotide_sessions_active") == 0
        assert server.metric("emotide_sessions_total") == 240
        assert server.metric("emotide_windows_waiting") == 0
        deadline = time.monotonic() + 3
        while server.fds() > fds + 2:
            assert time.monotonic() < deadline, (fds, server.fds())
            await asyncio.sleep(0.1)
        assert server.rss() - memory < 15 * MIB


async def test_skipping_hours_takes_no_memory(server: Server) -> None:
    """Skipped audio is counted and not buffered."""

    memory = server.rss()
    async with stream(server) as client:
        for _ in range(10):
            await client.send("input.resume", skipped_ms=14_400_000)
        await client.until("stream.resumed", 10)
        await client.audio(encode(speech())[:96_000])
        closed = await client.close_session()
        assert closed["totals"]["audio_ms"] == 144_003_000
    assert server.rss() - memory < 10 * MIB


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which keepalives alone hold a place for a second."""
    folder = tmp_path_factory.mktemp("outputs")
    options = (
        f"files.folder={folder}",
        "files.no_file_timeout_s=1",
        "files.upload_timeout_s=1",
        "limits.no_audio_timeout_s=1",
        "limits.resume_s=0.3",
    )
    with running_server(*(x for option in options for x in ("--set", option))) as running:
        yield running


async def keep_sending(client: Client, data: bytes | None = None) -> None:
    """Send keepalives, or `data`, ten times a second until the connection is closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await (client.send("keepalive") if data is None else client.socket.send(data))
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("data", [None, b"\0"])
async def test_a_stream_without_audio_does_not_hold_its_place(
    strict: Server, data: bytes | None
) -> None:
    """Keepalives alone, or single bytes, held all places of streams for ever."""
    async with stream(strict) as client:
        sending = asyncio.create_task(keep_sending(client, data))
        error = await client.until("error", timeout=8)
        assert error["code"] == "idle_timeout"
        assert "audio" in error["message"]
        assert await client.closed() == 4408
        await sending
    await wait_until_empty(strict, 5.0)


@pytest.mark.parametrize("begins", [False, True])
async def test_an_upload_does_not_hold_its_place(strict: Server, begins: bool) -> None:
    """Keepalives without a recording, or a recording byte by byte, held all places of uploads."""
    async with connect(strict, "/v1/files") as client:
        await client.until("files.ready")
        if begins:
            await client.send("file.begin", name="a.wav", size=1_000_000)
        sending = asyncio.create_task(keep_sending(client, b"\0" if begins else None))
        error = await client.until("error", timeout=8)
        assert error["code"] == "idle_timeout"
        assert (
            "did not arrive" in error["message"] if begins else "no recording" in error["message"]
        )
        assert await client.closed() == 4408
        await sending


async def test_a_posted_recording_must_arrive_in_time(strict: Server) -> None:
    """A body byte by byte held a place for ever."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    writer.write(head.encode())

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"\0")
                await writer.drain()
                await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(8):
        assert (await reader.readline()).split()[1] == b"408"
    dripping.cancel()
    writer.close()
