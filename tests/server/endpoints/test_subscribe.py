"""Subscriptions on /v1/subscribe: filters, snapshots, replay."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from tests.support.clients import Client, connect, stream, subscriber
from tests.support.running import Server
from tests.support.scheduling import until
from tests.support.utterances import encode, speech, talk

DATA = encode(speech())


@pytest.fixture(scope="module")
def server(unpaced: Server) -> Server:
    return unpaced


async def call(server: Server, stream_id: str, data: bytes = DATA, **query: Any) -> Client:
    """Run a complete stream and return its client."""
    async with stream(server, stream_id=stream_id, **query) as client:
        await client.audio(data)
        await client.close_session()
        return client


async def all_received(client: Client) -> None:
    """Wait until everything sent to this subscriber so far has arrived."""
    before = len(client.of("subscriptions"))
    await client.send("list")
    await client.until("subscriptions", before + 1)


def streams(client: Client) -> set[str]:
    return {e["stream_id"] for e in client.events if "stream_id" in e}


async def test_a_subscription_gets_its_confirmation_a_snapshot_and_live_events(
    server: Server,
) -> None:
    async with stream(server, stream_id="live-1") as producer:
        await producer.audio(DATA)
        await producer.until("emotion.score")
        async with subscriber(server, id="mine") as listener:
            subscribed = await listener.until("subscribed")
            assert (subscribed["id"], subscribed["matched"]) == ("mine", 1)
            snapshot = await listener.until("snapshot")
            assert snapshot["sub"] == "mine"
            (shown,) = snapshot["streams"]
            assert (shown["stream_id"], shown["state"]) == ("live-1", "active")
            assert shown["last"][0]["type"] == "emotion.score"
            await producer.close_session()
            await listener.until("session.closed")
            kinds = [event["type"] for event in listener.events]
            assert kinds[:2] == ["subscribed", "snapshot"]
            for event in listener.events[2:]:
                assert event["sub"] == "mine"
                match = dict(event)
                match.pop("sub")
                assert match in producer.events, "the same event, word by word"


async def test_a_subscription_can_omit_the_snapshot(server: Server) -> None:
    async with stream(server), subscriber(server, snapshot=False) as listener:
        await all_received(listener)
        assert not listener.of("snapshot")


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["*"], {"call-1", "call-2", "room"}),
        (["call-*"], {"call-1", "call-2"}),
        (["call-?", "room"], {"call-1", "call-2", "room"}),
        (["call-[2-9]"], {"call-2"}),
        (["all"], set()),
        (["*-1"], {"call-1"}),
    ],
)
async def test_stream_globs(server: Server, globs: list[str], expected: set[str]) -> None:
    async with subscriber(server, filter={"streams": globs}) as listener:
        await asyncio.gather(
            *(call(server, name, talk(0.5)) for name in ("call-1", "call-2", "room"))
        )
        await all_received(listener)
        assert streams(listener) == expected


async def test_tag_filter(server: Server) -> None:
    async with subscriber(server, filter={"tags": ["queue:a", "vip"]}) as listener:
        await call(server, "tagged-a", talk(0.5), tag="queue:a")
        await call(server, "tagged-b", talk(0.5), tag="queue:b")
        await call(server, "untagged", talk(0.5))
        await all_received(listener)
        assert streams(listener) == {"tagged-a"}


async def test_role_filter(server: Server) -> None:
    """Events of channels with other roles are filtered out; events of the stream are not."""

    both = encode(speech(), channels=2)
    swapped = both[2:] + both[:2]  # the speech is on the other channel
    async with subscriber(server, filter={"roles": ["customer"]}) as listener:
        await call(server, "cs", both, channels=2, roles="customer,speaker")
        await call(server, "sc", swapped, channels=2, roles="customer,speaker")
        await all_received(listener)
        of_channels = [e for e in listener.events if "role" in e]
        assert {e["role"] for e in of_channels} == {"customer"}
        assert {e["stream_id"] for e in of_channels} == {"cs"}
        assert {e["stream_id"] for e in listener.of("session.closed")} == {"cs", "sc"}


async def test_event_filter(server: Server) -> None:
    wanted = {"events": ["emotion.segment", "session.*"]}
    async with subscriber(server, filter=wanted) as listener:
        await call(server, "kinds")
        await all_received(listener)
        kinds = [e["type"] for e in listener.events if "stream_id" in e]
        assert kinds == [
            "session.created",
            "emotion.segment",
            "emotion.segment",
            "session.closed",
        ]


async def test_label_and_min_score_filters(server: Server) -> None:
    async with connect(server, "/v1/subscribe") as listener:
        few = {"labels": ["angry"], "events": ["emotion.*"]}
        high = {"min_score": {"sad": 0.9}, "events": ["emotion.*"]}
        low = {"min_score": {"sad": 0.9, "angry": 0.01}, "events": ["emotion.segment"]}
        for name, wanted in (("few", few), ("high", high), ("low", low)):
            await listener.send("subscribe", id=name, filter=wanted)
        await listener.until("subscribed", 3)
        await call(server, "labels")
        await all_received(listener)
        got = {n: [e for e in listener.events if e.get("sub") == n] for n in ("high", "low")}
        assert [e["type"] for e in got["high"]] == ["snapshot"]
        assert len([e for e in got["low"] if e["type"] == "emotion.segment"]) == 2
        for event in listener.of("emotion.score", "emotion.segment"):
            if event["sub"] == "few":
                assert set(event["scores"]) == {"angry"}
                assert all(set(r) == {"angry"} for r in event["rolling"].values())


async def test_a_snapshot_is_filtered_by_roles_and_labels(server: Server) -> None:
    """The filters apply to the newest scores in a snapshot as they do to events."""

    query = {"channels": 2, "roles": "customer,speaker", "stream_id": "snap"}
    async with stream(server, **query) as producer:
        both = speech().repeat(2).tobytes()  # the same on both channels
        await producer.audio(both, 6400)
        await producer.until("emotion.segment", 4)
        wanted = {"streams": ["snap"], "roles": ["customer"], "labels": ["angry"]}
        async with subscriber(server, filter=wanted) as listener:
            (shown,) = (await listener.until("snapshot"))["streams"]
            assert {score["role"] for score in shown["last"]} == {"customer"}
            assert all(set(score["scores"]) == {"angry"} for score in shown["last"])


async def test_rate_hz_limits_scores_only(server: Server) -> None:
    async with connect(server, "/v1/subscribe") as listener:
        await listener.send("subscribe", id="all", filter={"streams": ["limited"]})
        await listener.send("subscribe", id="few", filter={"streams": ["limited"]}, rate_hz=1)
        await listener.until("subscribed", 2)
        began = time.monotonic()
        async with stream(server, stream_id="limited", interval_ms=250) as producer:
            for _ in range(20):
                await producer.audio(talk(0.3), 9600)
                await asyncio.sleep(0.1)
            await producer.close_session()
        await listener.until(lambda e: e["type"] == "session.closed" and e["sub"] == "few")
        took_s = time.monotonic() - began
        counts = {
            name: {
                kind: sum(e["type"] == kind and e.get("sub") == name for e in listener.events)
                for kind in ("emotion.score", "emotion.segment", "speech.start")
            }
            for name in ("all", "few")
        }
        assert counts["all"]["emotion.score"] >= 8
        assert 2 <= counts["few"]["emotion.score"] <= took_s + 2
        assert counts["few"]["emotion.score"] < counts["all"]["emotion.score"]
        assert counts["few"]["emotion.segment"] == counts["all"]["emotion.segment"]
        assert counts["few"]["speech.start"] == counts["all"]["speech.start"]


async def test_since_replays_missed_events(server: Server) -> None:
    async with stream(server, stream_id="again") as producer:
        await producer.audio(DATA)
        await producer.until("emotion.segment", 2)
        async with subscriber(server, since={"again": 2}) as listener:
            await producer.close_session()
            await listener.until("session.closed")
            sent = [e for e in producer.events if e["seq"] > 2 and e["type"] != "audio.ack"]
            received = [e for e in listener.events if "seq" in e]
            assert [e["seq"] for e in received] == [e["seq"] for e in sent]


async def test_resume_tokens_are_sent_to_producers_only(server: Server) -> None:
    """A client with the token can stream in the producer's name, so no subscriber may get it."""

    async with subscriber(server, id="early") as listener:
        async with stream(server, stream_id="secret") as before:
            await before.audio(talk(2.0))
            await before.until("speech.start")
            await before.abort()
        async with connect(server, query={"resume": before.token, "last_seq": 0}) as after:
            await after.until("session.resumed")
            await listener.send("subscribe", id="late", since={"secret": -1})
            await listener.until("subscribed", 2)
            shown = server.get("/v1/streams")[2] + server.get("/v1/streams/secret")[2]
            await after.close_session()
        await listener.until("session.closed", 2)
        assert listener.of("session.created")
        assert listener.of("session.resumed")
        assert before.token not in str(listener.events)
        assert "resume_token" not in str(listener.events)
        assert b"resume_token" not in shown
        assert before.token.encode() not in shown
        assert before.token not in server.log()


async def test_unsubscribe_and_list(server: Server) -> None:
    async with subscriber(server, id="a") as listener:
        await listener.send("subscribe", id="b")
        await listener.until("subscribed", 2)
        await listener.send("list")
        assert (await listener.until("subscriptions"))["ids"] == ["a", "b"]
        await listener.send("unsubscribe", id="a")
        assert (await listener.until("unsubscribed"))["id"] == "a"
        await call(server, "one", talk(0.5))
        await all_received(listener)
        assert {e["sub"] for e in listener.events if "stream_id" in e} == {"b"}


async def test_a_takeover_emits_one_session_closed_per_session(server: Server) -> None:
    async with subscriber(server, filter={"streams": ["seat"]}) as listener:
        async with stream(server, stream_id="seat") as first:
            await first.until("session.created")
            async with stream(server, stream_id="seat", takeover="true") as second:
                await second.close_session()
        await listener.until("session.closed", 2)
        assert [e["type"] for e in listener.of("session.created", "session.closed")] == [
            "session.created",
            "session.closed",
        ] * 2


async def test_fifty_subscribers_receive_the_same_events(server: Server) -> None:
    async with contextlib.AsyncExitStack() as stack:
        wanted = {"streams": ["stage"]}
        listeners = await asyncio.gather(
            *(stack.enter_async_context(subscriber(server, filter=wanted)) for _ in range(50))
        )
        # Those of the tests before may not have been missed yet.
        await until(lambda: server.metric("emotide_subscribers_active") == 50)
        producer = await call(server, "stage")
        for listener in listeners:
            await listener.until("session.closed")
        sent = [e["seq"] for e in producer.events if e["type"] not in ("audio.ack",)]
        for listener in listeners:
            received = [e["seq"] for e in listener.events if "seq" in e]
            rest = set(sent) - set(received)
            kinds = {e["type"] for e in producer.events if e["seq"] in rest}
            assert kinds <= {"emotion.score"}, "only scores conflate"
    await until(lambda: not server.metric("emotide_subscribers_active"))
