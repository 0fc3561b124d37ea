"""Reattachment after a broken connection: no event and no audio is lost or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests.support.clients import Client, connect, stream
from tests.support.running import Event, Server, running_server
from tests.support.scheduling import until
from tests.support.utterances import encode, same_utterances, speech, talk, utterances

DATA = encode(speech())
BURST = DATA[:160_000]
HALF = len(DATA) // 2 // 3200 * 3200


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.ahead_s=1000") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unbroken(server: Server) -> list[Event]:
    async with stream(server) as client:
        await client.audio(DATA)
        await client.close_session()
        return client.events


def reattach(
    server: Server, token: str, last_seq: int | str | None = None
) -> AbstractAsyncContextManager[Client]:
    query: dict[str, object] = {"resume": token}
    if last_seq is not None:
        query["last_seq"] = last_seq
    return connect(server, query=query)


async def wait_for_ack(client: Client, samples: int) -> None:
    """Wait until `samples` samples per channel are acknowledged."""
    await client.until(lambda e: e.get("received_samples", 0) >= samples)


async def refusal(client: Client) -> tuple[str, int | None]:
    error = await client.until("error")
    assert error["fatal"] is True
    return error["code"], await client.closed()


async def test_a_reattached_stream_continues_without_a_difference(
    server: Server, unbroken: list[Event]
) -> None:
    async with stream(server, stream_id="broken") as before:
        await before.audio(DATA[:HALF])
        await wait_for_ack(before, HALF // 2)
        await before.abort()
    last = before.events[-1]["seq"]
    async with reattach(server, before.token, last) as after:
        resumed = await after.until("session.resumed")
        assert resumed["stream_id"] == "broken"
        assert resumed["session_id"] == before.events[0]["session_id"]
        assert resumed["received_samples"] == HALF // 2
        assert resumed["received_ms"] == HALF // 32
        await after.audio(DATA[2 * resumed["received_samples"] :])
        closed = await after.close_session()
    events = before.events + after.events
    assert utterances(events) == utterances(unbroken)
    assert closed["totals"]["audio_ms"] == unbroken[-1]["totals"]["audio_ms"]
    assert closed["summary"] == unbroken[-1]["summary"]
    assert sorted(event["seq"] for event in events) == list(range(len(events)))


async def test_missed_events_are_sent_once(server: Server) -> None:
    """The producer received two events: it gets `session.resumed`, then all later events, equal
    and in order."""

    async with stream(server) as before:
        await before.audio(DATA)
        await before.until("emotion.segment", 2)
        await wait_for_ack(before, len(DATA) // 2)
        await before.abort()
    known = before.events[:2]
    async with reattach(server, before.token, known[-1]["seq"]) as after:
        await after.until("session.resumed")
        await after.close_session()
    assert after.events[0]["type"] == "session.resumed"
    received = [event["seq"] for event in known + after.events]
    assert sorted(received) == list(range(len(received)))
    numbers = [event["seq"] for event in after.events[1:]]
    assert numbers == sorted(numbers)
    again = {event["seq"]: event for event in after.events}
    for event in before.events[2:]:
        assert again[event["seq"]] == event


async def test_without_last_seq_all_events_are_sent_again(server: Server) -> None:
    async with stream(server) as before:
        await before.audio(DATA[:HALF])
        await wait_for_ack(before, HALF // 2)
        await before.abort()
    async with reattach(server, before.token) as after:
        resumed = await after.until("session.resumed")
        assert resumed["resume_token"] == before.token
        await after.close_session()
    assert {e["seq"] for e in after.events} >= {e["seq"] for e in before.events}


async def test_results_false_applies_after_a_reattachment(server: Server) -> None:
    """Missed results are not sent to a producer that requested none."""

    async with stream(server, results="false") as before:
        await before.audio(DATA)
        await wait_for_ack(before, len(DATA) // 2)
        await before.abort()
    async with reattach(server, before.token) as after:
        await after.until("session.resumed")
        await after.close_session()
    kinds = {event["type"] for event in after.events}
    assert not [kind for kind in kinds if kind.startswith(("emotion.", "speech."))], kinds


async def test_a_split_sample_is_discarded_at_a_reattachment(
    server: Server, unbroken: list[Event]
) -> None:
    """The connection broke within a sample; the producer sends that sample again."""

    async with stream(server) as before:
        await before.audio(DATA[: HALF + 1], 3201)
        await wait_for_ack(before, HALF // 2)
        await before.abort()
    async with reattach(server, before.token, before.events[-1]["seq"]) as after:
        resumed = await after.until("session.resumed")
        await after.audio(DATA[2 * resumed["received_samples"] :])
        closed = await after.close_session()
    assert closed["summary"] == unbroken[-1]["summary"]


async def test_an_unknown_token_is_refused(server: Server) -> None:
    async with reattach(server, "rt_nothing") as client:
        assert await refusal(client) == ("unknown_stream", 4404)


async def test_a_closed_session_cannot_be_resumed(server: Server) -> None:
    async with stream(server) as client:
        await client.close_session()
    async with reattach(server, client.token) as late:
        assert await refusal(late) == ("unknown_stream", 4404)


@pytest.mark.parametrize("last", ["abc", "", "1.5", "9" * 5000])
async def test_an_invalid_last_seq_is_refused(server: Server, last: str) -> None:
    """`int` raises for five thousand digits, which closed the connection with 1011."""

    async with stream(server) as before:
        await before.until("session.created")
        await before.abort()
    async with reattach(server, before.token, last) as wrong:
        assert await refusal(wrong) == ("config_invalid", 4400)
    async with reattach(server, before.token, 0) as right:
        await right.until("session.resumed")
        await right.close_session()


async def test_a_live_stream_id_is_refused(server: Server) -> None:
    async with stream(server, stream_id="twin") as first:
        await first.until("session.created")
        async with stream(server, stream_id="twin") as second:
            assert await refusal(second) == ("stream_conflict", 4409)
        await first.audio(talk(1.0))
        await first.close_session()


async def test_a_takeover_ends_the_other_session(server: Server) -> None:
    async with stream(server, stream_id="taken") as first:
        await first.audio(talk(2.0))
        await first.until("speech.start")
        async with stream(server, stream_id="taken", takeover="true") as second:
            created = await second.until("session.created")
            assert await first.closed() == 4409
            closed = first.events[-1]
            assert (closed["type"], closed["reason"]) == ("session.closed", "taken_over")
            assert closed["totals"]["segments"] == 1, "the tail must be scored"
            (shown,) = (
                s for s in server.json("/v1/streams")["streams"] if s["stream_id"] == "taken"
            )
            assert shown["session_id"] == created["session_id"]
            await second.audio(talk(1.0))
            await second.close_session()


async def test_a_detached_stream_is_ended_by_a_new_one_with_its_id(server: Server) -> None:
    """A device that reboots has lost its token, but its stream id is not blocked for a minute."""

    async with stream(server, stream_id="device") as before:
        await before.until("session.created")
        await before.abort()
    await until(lambda: server.json("/v1/streams/device")["state"] == "detached")
    async with stream(server, stream_id="device") as fresh:
        created = await fresh.until("session.created")
        assert created["session_id"] != before.events[0]["session_id"]
        async with reattach(server, before.token) as late:
            assert await refusal(late) == ("unknown_stream", 4404)
        await fresh.close_session()


async def test_reattaching_while_the_old_connection_is_half_open(
    server: Server, unbroken: list[Event]
) -> None:
    """After a change of network, a producer reconnects before the server detects the break."""

    async with stream(server) as before:
        await before.audio(DATA[:HALF])
        await wait_for_ack(before, HALF // 2)
        before.socket.transport.pause_reading()
        async with reattach(server, before.token, before.events[-1]["seq"]) as after:
            resumed = await after.until("session.resumed")
            await after.audio(DATA[2 * resumed["received_samples"] :])
            closed = await after.close_session()
            assert closed["summary"] == unbroken[-1]["summary"]
            assert utterances(before.events + after.events) == utterances(unbroken)


async def test_late_audio_of_the_old_connection_is_discarded(server: Server) -> None:
    """It was analysed between the audio of the new connection and moved all later positions."""

    async with stream(server) as before:
        await before.audio(b"\0" * 32_000)
        await wait_for_ack(before, 16_000)
        before.socket.transport.pause_reading()
        async with reattach(server, before.token, before.events[-1]["seq"]) as after:
            await after.until("session.resumed")
            await before.audio(b"\0" * 32_000)
            await asyncio.sleep(0.3)
            await after.audio(b"\0" * 32_000)
            closed = await after.close_session()
            assert closed["totals"]["audio_ms"] == 2000


async def test_the_old_connection_does_not_end_the_stream(server: Server) -> None:
    """A browser tab closes with 1001, even if its stream is attached to another connection."""

    async with stream(server) as before:
        await before.until("session.created")
        before.socket.transport.pause_reading()
        async with reattach(server, before.token, 0) as after:
            await after.until("session.resumed")
            before.socket.protocol.send_close(1001)
            for data in before.socket.protocol.data_to_send():
                before.socket.transport.write(data)
            await asyncio.sleep(0.3)
            await after.audio(b"\0" * 32_000)
            closed = await after.close_session()
            assert closed["reason"] == "completed"


async def test_reattaching_during_a_throttled_burst() -> None:
    """The producer is ahead, the server throttles it, the connection breaks, it reattaches.

    Audio that the old connection's reader had received but not yet processed was analysed after
    `session.resumed` had been sent, in between the audio that was then sent again.
    """

    with running_server(
        model="tests.support.plugins:slow", env={"EMOTEST_SLEEP_S": "0.3"}
    ) as server:
        async with stream(server) as whole:
            await whole.audio(BURST, len(BURST) // 6)
            await whole.close_session()
        unbroken = whole.events

        async with stream(server) as before:
            await before.audio(BURST, len(BURST) // 6)
            await before.until("speech.start")
            await before.abort()
        async with reattach(server, before.token, before.events[-1]["seq"]) as after:
            resumed = await after.until("session.resumed")
            await after.audio(BURST[2 * resumed["received_samples"] :], 32_000)
            closed = await after.close_session()

        found = utterances(before.events + after.events)
        assert closed["totals"]["audio_ms"] == unbroken[-1]["totals"]["audio_ms"]
        assert same_utterances(found, utterances(unbroken)), (found, utterances(unbroken))


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server that keeps a detached session for two seconds, with at most two sessions."""
    limits = ("limits.resume_s=2", "limits.idle_timeout_s=5", "limits.max_sessions=2")
    with running_server(*(x for limit in limits for x in ("--set", limit))) as running:
        yield running


async def wait_until_empty(server: Server, timeout: float) -> None:
    for _ in range(int(timeout * 20)):
        if not (await asyncio.to_thread(server.json, "/v1/streams"))["streams"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"after {timeout} s: {server.json('/v1/streams')}")


async def test_a_token_expires(strict: Server) -> None:
    await wait_until_empty(strict, 20)
    expired = strict.metric("emotide_sessions_total", reason="connection_lost")
    async with stream(strict) as before:
        await before.audio(talk(1.0))
        await before.until("speech.start")
        await before.abort()
    await wait_until_empty(strict, 20)
    async with reattach(strict, before.token) as late:
        assert await refusal(late) == ("unknown_stream", 4404)
    assert strict.metric("emotide_sessions_total", reason="connection_lost") == expired + 1


async def test_a_full_server_lets_detached_sessions_reattach(strict: Server) -> None:
    """A detached session counts in max_sessions; its reattachment was refused with 503."""

    await wait_until_empty(strict, 20)
    async with stream(strict) as before, stream(strict) as other:
        await before.until("session.created")
        await other.until("session.created")
        await before.abort()
        async with reattach(strict, before.token) as after:
            await after.until("session.resumed")
            await after.close_session()
        await other.close_session()


async def test_a_refused_reattachment_leaves_the_session_unchanged(strict: Server) -> None:
    """An invalid `last_seq` attached the session to the refused connection; it never ended.

    The session had no connection but was registered as attached, so it was neither detached nor
    expired, and counted in max_sessions for ever.
    """

    await wait_until_empty(strict, 20)
    async with stream(strict) as before:
        await before.until("session.created")
        async with reattach(strict, before.token, "abc") as wrong:
            await refusal(wrong)
        await before.send("keepalive")
        await before.abort()
    await wait_until_empty(strict, 20)
