"""Privacy: analysed roles, disclosure, objections, the audit log."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.clients import Client, connect, stream, subscriber
from tests.support.running import Event, Server, running_server
from tests.support.scheduling import until
from tests.support.utterances import encode, speech, talk, utterances

PHONE = "4915112345678"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "logs" / "audit.jsonl"


@pytest.fixture(scope="module")
def server(audit: Path) -> Iterator[Server]:
    """A server with the default settings and an audit log."""
    args = ("--set", f"privacy.audit_log={audit}", "--set", "limits.ahead_s=1000")
    with running_server(*args) as running:
        yield running


def two_channels() -> bytes:
    """Return a two-channel call with the same speech on both, 0.5 s later on the second."""
    first = speech()
    second = first.copy()
    second[8000:], second[:8000] = first[:-8000], first[-8000:]
    interleaved = first.repeat(2)
    interleaved[1::2] = second
    return bytes(interleaved.tobytes())


async def refusal(client: Client) -> tuple[str, int | None, str]:
    error = await client.until("error")
    assert error["fatal"] is True
    return error["code"], await client.closed(), error["message"]


def two_sided(server: Server, **query: Any) -> AbstractAsyncContextManager[Client]:
    return stream(server, channels=2, **query)


async def test_only_the_customer_of_a_call_is_analysed(server: Server) -> None:
    async with two_sided(server) as client:
        created = await client.until("session.created")
        assert created["session"]["audio"]["roles"] == ["customer", "agent"]
        assert created["session"]["analysis"]["analyse_channels"] == [0]
        await client.audio(two_channels(), 6400)
        closed = await client.close_session()
        assert len(utterances(client.events)) == 2
        assert {e["channel"] for e in client.events if "channel" in e} == {0}
        assert [part["role"] for part in closed["summary"]] == ["customer"]
        agent = closed.pop("conversation")["call"]["sides"][1]
        assert agent.keys() == {
            "channel",
            "role",
            "talk_ms",
            "talk_share",
            "overlap_ms",
            "turns",
            "response_ms",
            "longest_turn_ms",
        }, "the agent's channel passes the voice detector, and nothing else"
        others = [event for event in client.events if event["type"] != "conversation"]
        assert "agent" not in str(others[1:])


async def test_without_activity_roles_nothing_is_known_of_the_agent() -> None:
    settings = ("--set", "privacy.activity_roles=[]", "--set", "limits.ahead_s=1000")
    with running_server(*settings) as server:
        async with two_sided(server) as client:
            await client.audio(two_channels(), 6400)
            await client.close_session()
            assert "agent" not in str(client.events[1:])


@pytest.mark.parametrize("role", ["agent", "employee", "supervisor"])
async def test_a_channel_of_an_employee_is_refused(server: Server, role: str) -> None:
    """By default no emotions of people at work are inferred (AI Act, Article 5(1)(f))."""

    async with stream(server, roles=role) as client:
        code, close, message = await refusal(client)
        assert (code, close) == ("agent_channel_forbidden", 4403)
        assert role in message
        assert "privacy.analyse_roles" in message


async def test_requesting_the_channel_of_the_agent_is_refused(server: Server) -> None:
    async with connect(server) as client:
        await client.send(
            "session.update",
            session={"audio": {"channels": 2}, "analysis": {"analyse_channels": [0, 1]}},
        )
        assert (await refusal(client))[:2] == ("agent_channel_forbidden", 4403)


async def test_the_agent_is_analysed_on_a_lawful_basis() -> None:
    """Without a basis, the server refuses to start with this configuration: see test_lifecycle."""

    config = '[privacy]\nanalyse_roles = ["customer", "agent"]\nemployee_basis = "acted_recording"'
    with running_server("--set", "limits.ahead_s=1000", config=config) as server:
        async with two_sided(server) as client:
            created = await client.until("session.created")
            assert created["session"]["analysis"]["analyse_channels"] == [0, 1]
            await client.audio(two_channels(), 6400)
            await client.close_session()
            assert {e["role"] for e in client.of("emotion.segment")} == {"customer", "agent"}

        privacy = server.json("/v1/info")["privacy"]
        assert privacy["employee_basis"] == "acted_recording"


async def test_disclosure_can_be_required() -> None:
    with running_server("--set", "privacy.require_disclosure=true") as server:
        info = server.json("/v1/info")["privacy"]
        assert info["require_disclosure"] is True
        assert info["disclosure"]

        async with stream(server) as client:
            code, close, message = await refusal(client)
            assert (code, close) == ("disclosure_required", 4403)
            assert "disclosed" in message
        async with stream(server, disclosed="false") as client:
            assert (await refusal(client))[0] == "disclosure_required"

        async with stream(server, disclosed="true") as client:
            created = await client.until("session.created")
            assert created["session"]["consent"]["disclosed"] is True
            await client.close_session()
        async with connect(server) as client:
            await client.send("session.update", session={"consent": {"disclosed": True}})
            await client.until("session.updated")
            await client.close_session()


async def test_an_objection_ends_the_stream_without_results(server: Server) -> None:
    """After it, nothing of the stream is scored, kept or sent, not even a summary."""

    async with (
        subscriber(server, filter={"streams": ["objector"]}) as listener,
        stream(server, stream_id="objector") as client,
    ):
        await client.audio(talk(2.2))
        await client.until("emotion.score")
        token = client.token
        await client.send("session.annotate", objected=True)
        await client.audio(talk(1.0))
        assert await client.closed() == 1000
        closed = client.events[-1]
        assert (closed["type"], closed["reason"]) == ("session.closed", "objected")
        assert closed["summary"][0]["scores"] == {}
        assert not client.of("emotion.segment"), "the open utterance must not be scored"
        await listener.until("session.closed")
        await listener.send("subscribe", id="late", since={"objector": -1})
        await listener.until("subscribed", 2)
        await listener.send("list")
        await listener.until("subscriptions")
        kinds = [event["type"] for event in listener.events]
        assert "emotion.segment" not in kinds
        assert not [e for e in listener.events if e.get("sub") == "late" and "scores" in e]
        assert server.get("/v1/streams/objector")[0] == 404
        async with connect(server, query={"resume": token}) as again:
            assert (await refusal(again))[:2] == ("unknown_stream", 4404)


def records(audit: Path) -> list[Event]:
    """Return the complete lines; a thread of the server writes them."""
    return [orjson.loads(line) for line in audit.read_bytes().rpartition(b"\n")[0].splitlines()]


def ended(audit: Path, session_id: str) -> Iterator[bool]:
    for record in records(audit):
        yield record["event"] == "session.end" and record["session_id"] == session_id


async def test_the_audit_log_records_sessions(server: Server, audit: Path) -> None:

    subscription = subscriber(server, filter={"streams": [PHONE, "queue-*"]})
    async with subscription, connect(server) as client:
        await client.send(
            "session.update",
            session={
                "stream_id": PHONE,
                "tags": ["vip"],
                "attrs": {"caller": "+" + PHONE},
                "consent": {"basis": "contract", "disclosed": True, "ref": "c-17"},
            },
        )
        await client.audio(encode(speech()))
        await client.close_session()
    session_id = str(client.events[0]["session_id"])
    await until(lambda: any(ended(audit, session_id)))
    lines = records(audit)
    (start,) = [x for x in lines if x["event"] == "session.start" and x["session_id"] == session_id]
    (end,) = [x for x in lines if x["event"] == "session.end" and x["session_id"] == session_id]
    assert start["analysed"] == ["speaker"]
    assert start["consent"] == {"basis": "contract", "disclosed": True, "ref": "c-17"}
    assert start["employee_basis"] == ""
    assert end["reason"] == "completed"
    assert [x for x in lines if x["event"] == "subscribe"]
    text = audit.read_text()
    assert "scores" not in text
    assert "angry" not in text
    assert len(text) < 20_000, "it must not contain audio"
    assert not audit.stat().st_mode & stat.S_IROTH, "it must not be readable by other users"


async def test_the_audit_log_records_subscribers(server: Server, audit: Path) -> None:
    """Without the address of the subscriber, a record does not identify it."""

    def subscribed() -> list[Event]:
        return [record for record in records(audit) if record["event"] == "subscribe"]

    before = len(subscribed())
    async with subscriber(server, filter={"streams": ["who"]}):
        await until(lambda: len(subscribed()) > before)
    last = subscribed()[-1]
    assert "127.0.0.1" in str(last), last


async def test_no_stream_id_is_logged(server: Server, audit: Path) -> None:
    """Stream ids are often phone numbers. Records of subscriptions contained them."""

    async with (
        subscriber(server, filter={"streams": [PHONE]}),
        stream(server, stream_id=PHONE) as client,
    ):
        await client.close_session()
    await until(lambda: any(ended(audit, client.events[0]["session_id"])))
    assert PHONE not in audit.read_text()
    assert PHONE not in server.log()
