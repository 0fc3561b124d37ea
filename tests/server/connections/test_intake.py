"""Received bytes: parsed in pieces and in order, bounded, paused and resumed."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.intake import PIECE, Intake


class FakeTransport:
    """The part of a transport that an intake uses."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


class Setup:
    def __init__(self) -> None:
        self.queue = FairQueue()
        self.transport = FakeTransport()
        self.pieces: list[bytes] = []
        self.wait_s = 0.0
        self._changed = asyncio.Event()
        self.intake = Intake(
            self.queue,
            self.queue.usage(),
            cast(asyncio.Transport, self.transport),
            self.parse,
            lambda: self.wait_s,
        )

    def parse(self, data: bytes) -> None:
        self.pieces.append(data)
        self._changed.set()

    async def received(self, size: int) -> bytes:
        async with asyncio.timeout(5):
            while sum(map(len, self.pieces)) < size:
                self._changed.clear()
                await self._changed.wait()
        await asyncio.sleep(0)
        return b"".join(self.pieces)


@pytest.fixture
async def setup() -> Setup:
    return Setup()


DATA = bytes(range(256)) * 1024


async def test_a_small_message_is_parsed_at_once(setup: Setup) -> None:
    setup.intake.feed(b"hello")
    assert setup.pieces == [b"hello"]
    assert setup.transport.reading


async def test_a_large_read_is_parsed_in_pieces_and_nothing_is_read_meanwhile(setup: Setup) -> None:
    setup.intake.feed(DATA)
    assert len(setup.pieces) == 1
    assert not setup.transport.reading
    assert await setup.received(len(DATA)) == DATA
    assert max(map(len, setup.pieces)) == PIECE
    assert setup.transport.reading


async def test_bytes_that_still_arrive_keep_their_order(setup: Setup) -> None:
    for begin in range(0, len(DATA), 10_000):
        setup.intake.feed(DATA[begin : begin + 10_000])
    assert await setup.received(len(DATA)) == DATA


async def test_a_paused_intake_keeps_the_rest(setup: Setup) -> None:
    setup.intake.pause()
    setup.intake.feed(DATA)
    await asyncio.sleep(0.05)
    assert setup.pieces == []
    assert not setup.transport.reading
    setup.intake.resume()
    assert await setup.received(len(DATA)) == DATA
    assert setup.transport.reading


async def test_a_handler_may_pause_and_resume_within_a_piece(setup: Setup) -> None:
    """The next piece must not be parsed inside of the one before it."""
    depth = 0

    def parse(data: bytes) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1
        setup.intake.pause()
        setup.intake.resume()
        setup.parse(data)
        depth -= 1

    setup.intake._parse = parse
    setup.intake.feed(DATA)
    assert await setup.received(len(DATA)) == DATA


async def test_a_rate_limit_delays_the_next_piece(setup: Setup) -> None:
    setup.wait_s = 0.05
    setup.intake.feed(b"late")
    assert setup.pieces == []
    assert not setup.transport.reading
    setup.wait_s = 0.0
    assert await setup.received(4) == b"late"
    assert setup.transport.reading


async def test_a_parser_that_raises_ends_its_connection(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(data: bytes) -> None:
        raise ValueError("broken")

    setup.intake._parse = parse
    setup.intake.feed(DATA)
    assert setup.transport.aborted
    assert "broken" in caplog.text


async def test_a_lost_connection_drops_the_rest(setup: Setup) -> None:
    setup.intake.feed(DATA)
    setup.intake.close()
    await asyncio.sleep(0.02)
    assert len(setup.pieces) == 1
