"""A running server conforms to docs/asyncapi.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from stream.protocol.errors import CLOSE_CODES
from stream.protocol.wire.codes import EventCode
from tests.support.clients import Client, connect, stream, subscriber
from tests.support.contract import PATH, Direction, messages, validate, validator
from tests.support.running import Server, running_server
from tests.support.utterances import talk


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def checked(client: Client, direction: Direction) -> set[str]:
    for event in client.events:
        validate(event, direction)
    return {event["type"] for event in client.events}


async def test_a_live_session_conforms_to_the_contract(server: Server) -> None:
    """All events that a producer and a subscriber can get in a session of a few seconds."""

    async with subscriber(server) as listener, connect(server) as producer:
        rule = {"name": "any", "index": "activation", "horizon": "window", "above": 0.0001}
        await listener.send("alert.rules", rules=[rule])
        await listener.until("alert.rules")
        await producer.send("session.update", session={"analysis": {"frames": True}})
        await producer.until("session.updated")
        await producer.audio(talk(4.0), pace_s=0.03)
        await producer.until("audio.ack")
        raised = await listener.until("alert")
        stream_id = raised["stream_id"]
        await listener.send("alert.acknowledge", stream_id=stream_id, id=raised["id"])
        await listener.until("alert.acknowledged")

        await producer.send("session.annotate", attrs={"language": "de"}, dtmf="5", mark="m")
        await producer.send("input.pause")
        await producer.send("input.resume", skipped_ms=1500)
        await producer.send("nonsense")
        await producer.audio(talk(2.0), pace_s=0.03)
        await producer.send("input.flush")
        await producer.close_session()

        await listener.until("session.closed")
        await listener.send("list")
        await listener.send("unsubscribe", id="s2")
        await listener.send("unsubscribe", id="s1")
        await listener.until("unsubscribed")
        sent, published = checked(producer, "to_producer"), checked(listener, "to_subscriber")

    documented = {name for name, _ in messages("to_producer")}
    others = {"session.resumed", "stream.detached", "stream.gap", "warning", "conversation"}
    assert sent == documented - others
    answers = {"subscribed", "snapshot", "subscriptions", "unsubscribed"}
    answers |= {"alert.rules", "alert.acknowledged"}
    assert published == answers | (sent - {"audio.ack", "session.created"})


async def test_a_resumed_session_conforms_to_the_contract(server: Server) -> None:
    async with subscriber(server) as listener:
        async with stream(server, stream_id="again") as first:
            await first.audio(talk(2.0))
            await first.until("emotion.score")
        # Two connections have no order: a resumption may overtake the end of the one before.
        await listener.until("stream.detached")
        async with connect(
            server, query={"resume": first.token, "last_seq": first.events[0]["seq"]}
        ) as second:
            await second.until("session.resumed")
            await second.close_session()
            assert {"emotion.score", "stream.detached"} <= checked(second, "to_producer")
        await listener.until("session.resumed")
        assert "stream.detached" in checked(listener, "to_subscriber")


async def test_a_snapshot_conforms_to_the_contract(server: Server) -> None:
    async with stream(server, tag="t") as producer:
        await producer.audio(talk(2.0))
        await producer.until("emotion.score")
        async with subscriber(server, filter={"labels": ["angry"]}) as listener:
            snapshot = await listener.until("snapshot")
            assert snapshot["streams"][0]["last"]
            checked(listener, "to_subscriber")
        listed = await asyncio.to_thread(server.json, "/v1/streams")
        for snapshot in listed["streams"]:
            validator({"$ref": "#/components/schemas/StreamSnapshot"}).validate(snapshot)
        await producer.close_session()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"sample_rate": 16000, "surplus": 1}, "config_invalid"),
        ({"sample_rate": 16000, "encoding": "mp3"}, "unsupported_encoding"),
        ({"sample_rate": 16000, "roles": "agent"}, "agent_channel_forbidden"),
        ({"resume": "rt_unknown"}, "unknown_stream"),
    ],
)
async def test_a_refusal_conforms_to_the_contract(
    server: Server, query: Mapping[str, Any], code: EventCode
) -> None:
    async with connect(server, query=query) as client:
        assert await client.closed() == CLOSE_CODES[code], urlencode(query)
        assert checked(client, "to_producer") == {"error"}
        assert client.events[-1]["code"] == code


def test_info_is_as_documented(server: Server) -> None:
    info = {"v": 1, **server.json("/v1/info")}
    validator({"$ref": "#/components/schemas/MqttInfo"}).validate(info)


def test_the_document_is_served(server: Server) -> None:
    status, headers, body = server.get("/asyncapi.yaml")
    assert (status, headers["content-type"]) == (200, "application/yaml")
    assert body == PATH.read_bytes()
