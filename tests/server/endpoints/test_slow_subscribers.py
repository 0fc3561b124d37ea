"""Subscribers that do not read: closed in time, or served the newest; nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.clients import Client, connect, stream, subscriber
from tests.support.running import Server, running_server
from tests.support.utterances import encode, speech, talk

DATA = encode(speech())


def small_queues(slow_consumer_s: float) -> AbstractContextManager[Server]:
    """Start a server with small queues and the given limit for slow subscribers."""
    limits = (
        "ahead_s=1000",
        "subscriber_queue=100",
        "resume_events=5000",
        f"slow_consumer_s={slow_consumer_s}",
        "idle_timeout_s=600",  # a producer waits while a loaded machine fills the buffers
    )
    return running_server(*(x for limit in limits for x in ("--set", f"limits.{limit}")))


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    with small_queues(0.5) as running:
        yield running


@pytest.fixture
def patient() -> Iterator[Server]:
    with small_queues(600.0) as running:
        yield running


def small_buffer() -> socket.socket:
    """Return a socket with a receive buffer of 4 kB."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


async def fill(server: Server, listener: Client) -> int:
    """Request 2 kB responses until the server cannot send any more; return their number."""
    requested, sent = 0, server.metric("emotide_events_sent_total")
    while True:
        assert requested < 20_000, "the buffers never fill"
        for _ in range(500):
            await listener.send("list")
        requested += 500
        # The server reads a thousand messages of one connection a second.
        wanted, still = sent + 500, 0
        while sent < wanted and still < 30:
            await asyncio.sleep(0.05)
            before, sent = sent, server.metric("emotide_events_sent_total")
            # One event is an acknowledgement for the producer beside it.
            still = 0 if sent > before + 1 else still + 1
        if sent < wanted:
            return requested


async def unread(server: Server, stack: contextlib.AsyncExitStack, **subscribe: Any) -> Client:
    """Connect a subscriber with a small receive buffer, and stop reading."""
    sock = small_buffer()
    sock.connect(("127.0.0.1", server.port))
    # A client that does not read gets no pong either, and would close the connection after 40 s.
    options: dict[str, Any] = {"sock": sock, "ping_interval": None}
    listener = await stack.enter_async_context(connect(server, "/v1/subscribe", **options))
    for number in range(31):
        await listener.send("subscribe", id=f"{number}".ljust(64, "-"), filter={"streams": ["-"]})
        await listener.until("subscribed", number + 1)
    await listener.send("subscribe", id="all", **subscribe)
    await listener.until("subscribed", 32)
    listener.socket.transport.pause_reading()
    return listener


async def test_a_subscriber_that_never_reads_is_closed_without_effect_on_others(
    strict: Server,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dead = await unread(strict, stack)
        good = await stack.enter_async_context(subscriber(strict, filter={"streams": ["go"]}))
        before = strict.rss()
        await fill(strict, dead)
        async with stream(strict, stream_id="go") as producer:
            await producer.audio(DATA)
            await producer.close_session()
        await good.until("session.closed")
        assert len(good.of("emotion.segment")) == len(producer.of("emotion.segment")) == 2
        for _ in range(400):
            if strict.metric("emotide_subscribers_active") == 1:
                break
            await asyncio.sleep(0.05)
        assert strict.metric("emotide_subscribers_active") == 1, "it was closed"
        assert strict.rss() - before < 30_000_000


async def test_a_slow_subscriber_receives_4408(strict: Server) -> None:
    """It reads again soon after the server has closed it, and then receives the close code."""

    codes = []
    async with contextlib.AsyncExitStack() as stack:
        while 4408 not in codes:
            slow = await unread(strict, stack)
            slow.checks = False
            await fill(strict, slow)
            # Blocked for 1.5 s, it is closed by the next check, and reset 5 s after that: a test
            # that is later than that on a busy machine has to try again.
            await asyncio.sleep(1.0)
            slow.socket.transport.resume_reading()
            codes.append(await slow.closed())
            assert codes.count(1006) < 3, codes


async def test_scores_conflate_and_drops_are_reported(patient: Server) -> None:
    """After a pause in reading: the newest scores, other events as far as they fit, `lagged`.

    `lagged` was in the same queue and could itself be dropped; the events that it counted were
    then not reported.
    """

    async with contextlib.AsyncExitStack() as stack:
        slow = await unread(patient, stack, filter={"streams": ["busy"]})
        async with stream(patient, stream_id="busy", interval_ms=250) as producer:
            await producer.until("session.created")
            requested = await fill(patient, slow)
            for _ in range(150):
                await producer.send("session.annotate", attrs={"note": "x" * 1000})
            await producer.audio(talk(3.0))
            await producer.until("emotion.score", 2)
            slow.socket.transport.resume_reading()
            await slow.until("lagged")
            await producer.audio(talk(1.0))
            await producer.close_session()
            await slow.until("session.closed")
            dropped = sum(event["dropped"] for event in slow.of("lagged"))
            assert patient.metric("emotide_events_dropped_total", transport="ws") >= dropped > 0
            annotated = 150
            received = len(slow.of("subscriptions")) + len(slow.of("session.annotated"))
            assert dropped + received == pytest.approx(requested + annotated, abs=10)
            newest = producer.of("emotion.score")[-1]["seq"]
            assert newest in {e["seq"] for e in slow.of("emotion.score")}
