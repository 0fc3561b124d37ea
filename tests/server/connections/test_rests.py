"""Rests between reads: several small messages in one read, and no peer slowed down by them."""

from __future__ import annotations

import asyncio

import pytest

from stream.server.connections.rests import IN_VAIN, OFTEN_S, REST_S, SMALL, RestDecider, Rests


def sizes_read(
    decider: RestDecider, period_s: float, size: int, messages: int, lockstep: bool = False
) -> tuple[list[int], float]:
    """Return the sizes of the reads of a peer's messages, and the seconds that all took.

    In `lockstep` the peer sends the next message when it has the answer to the one before.
    """
    reads, now, sent_at = [], 0.0, [n * period_s for n in range(messages)]
    while sent_at:
        now = max(now, sent_at[0])
        arrived = 1 if lockstep else sum(at <= now for at in sent_at)
        sent_at = [now + period_s] * (len(sent_at) - 1) if lockstep else sent_at[arrived:]
        reads.append(arrived * size)
        if decider.rests_after(arrived * size, now):
            now += REST_S
    return reads, now


def test_three_messages_of_20_ms_come_in_one_read() -> None:
    reads, _ = sizes_read(RestDecider(), 0.02, 166, 200)
    assert len(reads) <= 200 / 3 + 5
    assert max(reads) <= 4 * 166


def test_messages_of_100_ms_do_not_wait() -> None:
    reads, took_s = sizes_read(RestDecider(), 0.1, 806, 50)
    assert len(reads) == 50
    assert took_s == pytest.approx(4.9)


def test_a_peer_that_waits_for_answers_is_not_slowed_down() -> None:
    """Clients of Vosk send the next chunk after the answer: each would have waited for a rest."""
    reads, took_s = sizes_read(RestDecider(), 0.001, 326, 500, lockstep=True)
    assert len(reads) == 500
    assert took_s < 500 * 0.001 + (IN_VAIN + 1) * REST_S


def test_a_handshake_that_is_larger_than_a_message_does_not_end_the_rests() -> None:
    decider = RestDecider()
    assert not decider.rests_after(700, 0.0)
    decider.rests_after(250, 0.01)
    reads, _ = sizes_read(decider, 0.02, 166, 200)
    assert len(reads) <= 200 / 3 + 5


def test_large_reads_are_followed_at_once() -> None:
    decider = RestDecider()
    assert not any(decider.rests_after(SMALL, n * OFTEN_S / 100) for n in range(100))


async def test_all_rests_end_in_time_with_one_timer() -> None:
    loop = asyncio.get_running_loop()
    rests, ended = Rests(loop), list[float]()
    began = loop.time()
    for _ in range(100):
        rests.begin(lambda: ended.append(loop.time()))
    await asyncio.sleep(0.02)
    rests.begin(lambda: ended.append(loop.time()))
    async with asyncio.timeout(30):
        while len(ended) < 101:  # noqa: ASYNC110 - the rests have no event
            await asyncio.sleep(0.005)
    assert ended[0] - began > REST_S * 0.8
    assert ended[100] > ended[99]
