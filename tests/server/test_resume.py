"""A connection breaks, its producer comes back: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.clients import Client, connect, run, stream
from tests.support.running import Event, Server, running_server
from tests.support.utterances import encode, same_utterances, speech, talk, utterances

DATA = encode(speech())
BURST = DATA[:160_000]
HALF = len(DATA) // 2 // 3200 * 3200


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", "limits.ahead_s=1000") as running:
        yield running


@pytest.fixture(scope="module")
def unbroken(server: Server) -> list[Event]:
    async def session() -> list[Event]:
        async with stream(server) as client:
            await client.audio(DATA)
            await client.close_session()
            return client.events

    return run(session())


def back(
    server: Server, token: str, last_seq: int | str | None = None
) -> AbstractAsyncContextManager[Client]:
    query: dict[str, object] = {"resume": token}
    if last_seq is not None:
        query["last_seq"] = last_seq
    return connect(server, query=query)


async def heard(client: Client, samples: int) -> None:
    await client.until(lambda e: e.get("received_samples", 0) >= samples, timeout=5)


async def refusal(client: Client) -> tuple[str, int | None]:
    error = await client.until("error")
    assert error["fatal"] is True
    return error["code"], await client.closed()


def test_the_stream_goes_on_as_if_nothing_had_happened(
    server: Server, unbroken: list[Event]
) -> None:
    async def session() -> None:
        async with stream(server, stream_id="broken") as before:
            await before.audio(DATA[:HALF])
            await heard(before, HALF // 2)
            await before.abort()
        last = before.events[-1]["seq"]
        async with back(server, before.token, last) as after:
            resumed = await after.until("session.resumed")
            assert resumed["stream_id"] == "broken"
            assert resumed["session_id"] == before.events[0]["session_id"]
            assert resumed["received_samples"] == HALF // 2
            assert resumed["received_ms"] == HALF // 32
            await after.audio(DATA[2 * resumed["received_samples"] :])
            closed = await after.close_session()
        whole = before.events + after.events
        assert utterances(whole) == utterances(unbroken)
        assert closed["totals"]["audio_ms"] == unbroken[-1]["totals"]["audio_ms"]
        assert closed["summary"] == unbroken[-1]["summary"]
        assert [event["seq"] for event in whole] == list(range(len(whole)))

    run(session())


def test_what_was_missed_is_told_once(server: Server) -> None:
    """The producer saw nothing after its second event: first it hears where to go on, then all
    the rest, word by word, in order."""

    async def session() -> None:
        async with stream(server) as before:
            await before.audio(DATA)
            await before.until("emotion.segment", 2)
            await heard(before, len(DATA) // 2)
            await before.abort()
        known = before.events[:2]
        async with back(server, before.token, known[-1]["seq"]) as after:
            await after.until("session.resumed")
            await after.close_session()
        assert after.events[0]["type"] == "session.resumed"
        told = [event["seq"] for event in known + after.events]
        assert sorted(told) == list(range(len(told)))
        numbers = [event["seq"] for event in after.events[1:]]
        assert numbers == sorted(numbers)
        again = {event["seq"]: event for event in after.events}
        for event in before.events[2:]:
            assert again[event["seq"]] == event

    run(session())


def test_without_last_seq_everything_comes_again_but_the_token(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as before:
            await before.audio(DATA[:HALF])
            await heard(before, HALF // 2)
            await before.abort()
        async with back(server, before.token) as after:
            resumed = await after.until("session.resumed")
            assert resumed["resume_token"] == before.token
            await after.close_session()
        assert {e["seq"] for e in after.events} >= {e["seq"] for e in before.events}

    run(session())


def test_results_false_holds_after_a_resume(server: Server) -> None:
    """What the producer did not want it does not get because its connection broke either."""

    async def session() -> None:
        async with stream(server, results="false") as before:
            await before.audio(DATA)
            await heard(before, len(DATA) // 2)
            await before.abort()
        async with back(server, before.token) as after:
            await after.until("session.resumed")
            await after.close_session()
        kinds = {event["type"] for event in after.events}
        assert not [kind for kind in kinds if kind.startswith(("emotion.", "speech."))], kinds

    run(session())


def test_half_a_sample_is_not_kept(server: Server, unbroken: list[Event]) -> None:
    """The connection broke in the middle of a sample; the producer sends that sample again."""

    async def session() -> None:
        async with stream(server) as before:
            await before.audio(DATA[: HALF + 1], 3201)
            await heard(before, HALF // 2)
            await before.abort()
        async with back(server, before.token, before.events[-1]["seq"]) as after:
            resumed = await after.until("session.resumed")
            await after.audio(DATA[2 * resumed["received_samples"] :])
            closed = await after.close_session()
        assert closed["summary"] == unbroken[-1]["summary"]

    run(session())


def test_unknown_token(server: Server) -> None:
    async def session() -> None:
        async with back(server, "rt_nothing") as client:
            assert await refusal(client) == ("unknown_stream", 4404)

    run(session())


def test_a_closed_stream_cannot_be_resumed(server: Server) -> None:
    async def session() -> None:
        async with stream(server) as client:
            await client.close_session()
        async with back(server, client.token) as late:
            assert await refusal(late) == ("unknown_stream", 4404)

    run(session())


@pytest.mark.parametrize("last", ["abc", "", "1.5", "9" * 5000])
def test_a_wrong_last_seq_is_refused(server: Server, last: str) -> None:
    """Five thousand digits are too many for `int`, which ended the connection with 1011."""

    async def session() -> None:
        async with stream(server) as before:
            await before.until("session.created")
            await before.abort()
        async with back(server, before.token, last) as wrong:
            assert await refusal(wrong) == ("config_invalid", 4400)
        async with back(server, before.token, 0) as right:
            await right.until("session.resumed")
            await right.close_session()

    run(session())


def test_two_sessions_cannot_have_one_id(server: Server) -> None:
    async def session() -> None:
        async with stream(server, stream_id="twin") as first:
            await first.until("session.created")
            async with stream(server, stream_id="twin") as second:
                assert await refusal(second) == ("stream_conflict", 4409)
            await first.audio(talk(1.0))
            await first.close_session()

    run(session())


def test_takeover_ends_the_other(server: Server) -> None:
    async def session() -> None:
        async with stream(server, stream_id="desk") as first:
            await first.audio(talk(2.0))
            await first.until("speech.start")
            async with stream(server, stream_id="desk", takeover="true") as second:
                created = await second.until("session.created")
                assert await first.closed() == 4409
                closed = first.events[-1]
                assert (closed["type"], closed["reason"]) == ("session.closed", "taken_over")
                assert closed["totals"]["segments"] == 1, "its tail was scored"
                (shown,) = (
                    s for s in server.json("/v1/streams")["streams"] if s["stream_id"] == "desk"
                )
                assert shown["session_id"] == created["session_id"]
                await second.audio(talk(1.0))
                await second.close_session()

    run(session())


def test_a_parked_stream_gives_way_to_a_new_one(server: Server) -> None:
    """The device rebooted and forgot its token: its id is not blocked for a minute."""

    async def session() -> None:
        async with stream(server, stream_id="device") as before:
            await before.until("session.created")
            await before.abort()
        await asyncio.sleep(0.1)
        async with stream(server, stream_id="device") as fresh:
            created = await fresh.until("session.created")
            assert created["session_id"] != before.events[0]["session_id"]
            async with back(server, before.token) as late:
                assert await refusal(late) == ("unknown_stream", 4404)
            await fresh.close_session()

    run(session())


def test_returning_while_the_old_connection_is_half_open(
    server: Server, unbroken: list[Event]
) -> None:
    """The network changed under the producer: it is back before the server saw it leave."""

    async def session() -> None:
        async with stream(server) as before:
            await before.audio(DATA[:HALF])
            await heard(before, HALF // 2)
            before.socket.transport.pause_reading()
            async with back(server, before.token, before.events[-1]["seq"]) as after:
                resumed = await after.until("session.resumed")
                await after.audio(DATA[2 * resumed["received_samples"] :])
                closed = await after.close_session()
                assert closed["summary"] == unbroken[-1]["summary"]
                assert utterances(before.events + after.events) == utterances(unbroken)

    run(session())


def test_late_audio_of_the_old_connection_is_not_the_streams(server: Server) -> None:
    """It was analysed between the new connection's audio and moved everything after it."""

    async def session() -> None:
        async with stream(server) as before:
            await before.audio(b"\0" * 32_000)
            await heard(before, 16_000)
            before.socket.transport.pause_reading()
            async with back(server, before.token, before.events[-1]["seq"]) as after:
                await after.until("session.resumed")
                await before.audio(b"\0" * 32_000)
                await asyncio.sleep(0.3)
                await after.audio(b"\0" * 32_000)
                closed = await after.close_session()
                assert closed["totals"]["audio_ms"] == 2000

    run(session())


def test_the_old_connection_does_not_end_the_stream(server: Server) -> None:
    """A tab that goes says 1001, whether or not its stream moved to another connection."""

    async def session() -> None:
        async with stream(server) as before:
            await before.until("session.created")
            before.socket.transport.pause_reading()
            async with back(server, before.token, 0) as after:
                await after.until("session.resumed")
                before.socket.protocol.send_close(1001)
                for data in before.socket.protocol.data_to_send():
                    before.socket.transport.write(data)
                await asyncio.sleep(0.3)
                await after.audio(b"\0" * 32_000)
                closed = await after.close_session()
                assert closed["reason"] == "completed"

    run(session())


def test_returning_in_the_middle_of_a_burst() -> None:
    """The producer is ahead, the server throttles, the connection breaks, the producer is back.

    What the old connection's reader had received but not yet worked on was analysed after the
    server had said from where to go on, in between the audio that was then sent again.
    """

    async def session(server: Server) -> None:
        async def whole() -> list[Event]:
            async with stream(server) as client:
                await client.audio(BURST, len(BURST) // 6)
                await client.close_session()
                return client.events

        unbroken = await whole()
        async with stream(server) as before:
            await before.audio(BURST, len(BURST) // 6)
            await before.until("speech.start")
            await before.abort()
        async with back(server, before.token, before.events[-1]["seq"]) as after:
            resumed = await after.until("session.resumed")
            await after.audio(BURST[2 * resumed["received_samples"] :], 32_000)
            closed = await after.close_session()
        got = utterances(before.events + after.events)
        assert closed["totals"]["audio_ms"] == unbroken[-1]["totals"]["audio_ms"]
        assert same_utterances(got, utterances(unbroken)), (got, utterances(unbroken))

    with running_server(
        model="tests.support.plugins:slow", env={"EMOTEST_SLEEP_S": "0.3"}
    ) as server:
        run(session(server))


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that keeps a broken stream for only half a second, and has room for two."""
    limits = ("limits.resume_s=0.5", "limits.idle_timeout_s=1", "limits.max_sessions=2")
    with running_server(*(x for limit in limits for x in ("--set", limit))) as running:
        yield running


async def empty(server: Server, timeout: float) -> None:
    for _ in range(int(timeout * 20)):
        if not (await asyncio.to_thread(server.json, "/v1/streams"))["streams"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"after {timeout} s: {server.json('/v1/streams')}")


def test_too_late(hasty: Server) -> None:
    async def session() -> None:
        await empty(hasty, 3)
        async with stream(hasty) as before:
            await before.audio(talk(1.0))
            await before.until("speech.start")
            await before.abort()
        await empty(hasty, 2)
        async with back(hasty, before.token) as late:
            assert await refusal(late) == ("unknown_stream", 4404)
        lost = hasty.metric("emotide_sessions_total", reason="connection_lost")
        assert lost == 1

    run(session())


def test_a_full_server_takes_its_own_streams_back(hasty: Server) -> None:
    """A stream that may come back holds its place; the handshake refused it with 503 as new."""

    async def session() -> None:
        await empty(hasty, 3)
        async with stream(hasty) as before, stream(hasty) as other:
            await before.until("session.created")
            await other.until("session.created")
            await before.abort()
            async with back(hasty, before.token) as after:
                await after.until("session.resumed")
                await after.close_session()
            await other.close_session()

    run(session())


def test_a_refused_resume_leaves_the_stream_as_it_was(hasty: Server) -> None:
    """A wrong `last_seq` took the stream from its owner, then forgot it: it lived for ever.

    Its connection was gone, so nobody fed it; it was registered as connected, so it was never
    parked nor ended, and it kept its place among max_sessions.
    """

    async def session() -> None:
        await empty(hasty, 3)
        async with stream(hasty) as before:
            await before.until("session.created")
            async with back(hasty, before.token, "abc") as wrong:
                await refusal(wrong)
            await before.say("keepalive")
            await before.abort()
        await empty(hasty, 3)

    run(session())
