"""Tenants do not see, hear, end or continue what another tenant sends: every endpoint, in process.

Any key with the scope `stream` could end another customer's call with `takeover=true`, take a call
whose connection had just broken, and any key with `subscribe` heard every call of the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from stream.protocol.file_options import FileOptions
from stream.server.access.auth import TICKET
from stream.tenants import DEFAULT, Principal
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.tenants import CALL, WATCHED, TenantServer
from tests.support.utterances import talk

MISSING = "call-9"
"""As long as `CALL`, so that answers that quote an id have one length."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TenantServer]:
    async with TenantServer(tmp_path).running() as running:
        yield running


def same(one: Any, other: Any) -> None:
    """Compare two answers; they may quote the ids that they are about."""
    texts = [repr(answer).replace(CALL, "ID").replace(MISSING, "ID") for answer in (one, other)]
    assert texts[0] == texts[1]


# -- HTTP --------------------------------------------------------------------------------------

Row = Callable[[TenantServer, str, str], Awaitable[Any]]
"""Asks for the stream with an id by a key; returns the answer."""


def of_stream(path: str) -> Row:
    return lambda server, key, stream_id: server.ask(key, "GET", path.replace("ID", stream_id))


STREAMS: dict[str, Row] = {
    "state": of_stream("/v1/streams/ID"),
    "state of a named tenant": of_stream("/v1/streams/ID?tenant=acme"),
    "frames": of_stream("/v1/streams/ID/frames"),
    "frames of a named tenant": of_stream("/v1/streams/ID/frames?tenant=acme"),
}


@pytest.mark.parametrize("row", STREAMS)
@pytest.mark.parametrize("key", ["globex", "plain"])
async def test_a_stream_of_another_tenant_does_not_exist(
    server: TenantServer, row: str, key: str
) -> None:
    """The answer is that for an id that no stream has, so it does not reveal that there is one."""
    await server.call("acme")
    other = await STREAMS[row](server, key, CALL)
    assert other[0] == HTTPStatus.NOT_FOUND
    same(other, await STREAMS[row](server, key, MISSING))
    assert (await STREAMS[row](server, "acme2", CALL))[0] == HTTPStatus.OK, "another key of acme"
    assert (await STREAMS[row](server, "ops", CALL))[0] == HTTPStatus.OK


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        ("acme", [("acme", "a")]),
        ("globex", [("globex", "g"), ("globex", CALL)]),
        ("plain", [(DEFAULT, CALL)]),
        ("both", [("acme", "a"), ("globex", "g"), ("globex", CALL)]),
        ("ops", [("acme", "a"), (DEFAULT, CALL), ("globex", "g"), ("globex", CALL)]),
    ],
)
async def test_the_list_has_the_streams_of_the_tenants_that_a_key_sees(
    server: TenantServer, key: str, seen: list[tuple[str, str]]
) -> None:
    await server.call("acme", "a")
    await server.call("globex", "g")
    await server.call("globex")
    await server.call("plain")
    status, body = await server.ask(key, "GET", "/v1/streams")
    assert status == HTTPStatus.OK
    several = key in WATCHED
    assert all(("tenant" in stream) == several for stream in body["streams"])
    listed = {(s.get("tenant", seen[0][0]), s["stream_id"]) for s in body["streams"]}
    assert listed == set(seen)


async def test_a_key_that_watches_several_tenants_selects_between_streams_of_one_id(
    server: TenantServer,
) -> None:
    await server.call("acme")
    await server.call("globex")
    shown = {}
    for query in ("", "?tenant=acme", "?tenant=globex"):
        status, shown[query] = await server.ask("both", "GET", f"/v1/streams/{CALL}{query}")
        assert status == HTTPStatus.OK
    assert shown[""] == shown["?tenant=globex"], "its own tenant comes first"
    assert shown["?tenant=acme"]["tenant"] == "acme"
    assert (await server.ask("ops", "GET", f"/v1/streams/{CALL}"))[1]["tenant"] == "acme"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_recording_of_another_tenant_does_not_exist(
    server: TenantServer, method: str
) -> None:
    job, _ = await server.recording("acme")
    for key in ("globex", "plain", "ops", "both", "acme2"):
        other = await server.ask(key, method, f"/v1/files/{job.id}")
        assert other == await server.ask(key, method, "/v1/files/file_" + "0" * 24)
        assert other[0] == HTTPStatus.NOT_FOUND
    assert (await server.ask("acme", method, f"/v1/files/{job.id}"))[0] < 300


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_result_of_another_tenant_does_not_exist(server: TenantServer, method: str) -> None:
    _, address = await server.recording("acme")
    missing = "/v1/results/" + "x" * 32 + "/result.json"
    for key in ("globex", "plain", "ops", "both", "acme2"):
        other = await server.ask(key, method, address)
        assert other == await server.ask(key, method, missing)
        assert other[0] == HTTPStatus.NOT_FOUND
    assert (await server.ask("acme", method, address))[0] == HTTPStatus.OK


async def test_a_result_from_a_time_without_keys_belongs_to_the_default_tenant(
    server: TenantServer,
) -> None:
    """Without keys everything is of the tenant `default`; later tenants must not inherit it."""
    job, address = await server.recording("")
    for path in (address, f"/v1/files/{job.id}"):
        assert (await server.ask("plain", "GET", path))[0] == HTTPStatus.OK
        assert (await server.ask("acme", "GET", path))[0] == HTTPStatus.NOT_FOUND


async def test_a_result_stays_with_the_tenant_when_a_key_of_the_same_name_moves(
    server: TenantServer,
) -> None:
    """The store knew an owner by the key's name alone, and names may be used again."""
    _, address = await server.recording("acme")
    stored = next(iter(server.store._results.values()))
    assert stored.owner == "acme/acme"
    assert not Principal("acme", "globex").owns(stored.owner)
    assert not Principal("acme").owns(stored.owner)
    assert (await server.ask("acme", "GET", address))[0] == HTTPStatus.OK


# -- producers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("takeover", ["", "&takeover=true"])
async def test_an_id_may_live_in_two_tenants_at_once(server: TenantServer, takeover: str) -> None:
    """`takeover=true` ended the call of another customer who used the same id."""
    first = await server.call("acme")
    second = await server.call("globex", options=takeover)
    assert "session.closed" not in [event["type"] for event in first.events]
    assert first.closes == second.closes == []
    assert len(server.sessions.registry) == 2
    first.handler.received(talk(1.5))
    await until(lambda: [e["type"] for e in first.events].count("emotion.score") >= 2)


async def test_within_a_tenant_an_id_is_unique_whatever_the_key(server: TenantServer) -> None:
    first = await server.call("acme")
    path = f"/v1/stream?sample_rate=16000&stream_id={CALL}"
    refused = server.connect(path, "acme2")
    assert (await refused.event("error"))["code"] == "stream_conflict"
    await server.call("acme2", options="&takeover=true")
    assert first.events[-1]["type"] == "session.closed"


async def test_a_broken_connection_does_not_give_the_stream_to_another_tenant(
    server: TenantServer,
) -> None:
    """A detached stream is taken by anybody who asks for its id; only its own tenant may ask."""
    first = await server.call("acme")
    token = (await first.event("session.created"))["resume_token"]
    first.handler.disconnected(None)
    await server.call("globex")
    again = server.connect(f"/v1/stream?resume={token}", "acme2")
    await again.event("session.resumed")


async def test_a_resume_token_of_another_tenant_is_unknown(server: TenantServer) -> None:
    first = await server.call("acme")
    token = (await first.event("session.created"))["resume_token"]
    answers = []
    for asked in (token, "rt_" + "x" * 32):
        stranger = server.connect(f"/v1/stream?resume={asked}", "globex")
        error = await stranger.event("error")
        await until(lambda peer=stranger: peer.closes)  # type: ignore[misc]
        own = ("ts", "session_id", "stream_id")
        answers.append(({k: v for k, v in error.items() if k not in own}, stranger.closes))
    assert answers[0] == answers[1]
    assert answers[0][0]["code"] == "unknown_stream"
    assert first.closes == [], "its producer is still connected"


# -- subscribers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"filter": {"streams": [CALL]}, "since": {CALL: -1}},
        {"since": {f"acme/{CALL}": -1}},
        {"filter": {"tenants": ["acme"]}, "since": {CALL: -1, f"acme/{CALL}": -1}},
    ],
)
@pytest.mark.parametrize("key", ["globex", "plain"])
async def test_a_subscription_hears_no_other_tenant(
    server: TenantServer, key: str, fields: dict[str, Any]
) -> None:
    """Neither what happens, nor what happened, nor that there is anything to hear."""
    producer = await server.call("acme")
    stranger = await server.listening(key, **fields)
    friend = await server.listening("acme2", **fields)
    producer.handler.received(talk(1.5))
    producer.say("session.close")
    await friend.event("session.closed")
    assert [event["type"] for event in stranger.events] == ["subscribed", "snapshot"]
    assert stranger.events[0]["matched"] == 0
    assert stranger.events[1]["streams"] == []


async def test_who_watches_others_hears_them_with_their_tenant(server: TenantServer) -> None:
    await server.call("acme")
    await server.call("plain")
    listener = await server.listening("both", since={f"acme/{CALL}": -1})
    late = await server.call("globex")
    late.say("session.close")
    await listener.event("session.closed")
    heard = {(e["tenant"], e["stream_id"]) for e in listener.events if "seq" in e}
    assert heard == {("acme", CALL), ("globex", CALL)}
    [snapshot] = [event for event in listener.events if event["type"] == "snapshot"]
    assert [stream["tenant"] for stream in snapshot["streams"]] == ["acme"]
    replayed = [e for e in listener.events if e.get("tenant") == "acme" and e["type"] != "snapshot"]
    assert replayed[0]["type"] == "session.created"


async def test_a_filter_selects_tenants(server: TenantServer) -> None:
    await server.call("acme")
    await server.call("globex")
    listener = await server.listening("ops", filter={"tenants": ["globex"]})
    [snapshot] = [event for event in listener.events if event["type"] == "snapshot"]
    assert [stream["tenant"] for stream in snapshot["streams"]] == ["globex"]


async def test_a_ticket_carries_the_tenant_of_its_key(server: TenantServer) -> None:
    await server.call("acme")
    for key, matched in (("globex", 0), ("acme", 1)):
        [known] = [k for k in server.authenticator._keys.values() if k.name == key]
        ticket = server.authenticator.ticket(known)
        peer = server.connect("/v1/subscribe", "", "emotide.v1", TICKET + ticket)
        peer.say("subscribe")
        assert (await peer.event("subscribed"))["matched"] == matched


async def test_the_audit_log_names_tenant_and_key(server: TenantServer) -> None:
    producer = await server.call("acme")
    await server.listening("globex")
    producer.say("session.close")
    await producer.event("session.closed")
    records = dict(server.sessions.audit.records)
    assert (records["session.start"]["tenant"], records["session.start"]["key"]) == ("acme", "acme")
    assert records["session.end"]["tenant"] == "acme"
    assert records["subscribe"]["tenant"] == "globex"


async def test_without_keys_every_request_is_of_the_default_tenant(tmp_path: Path) -> None:
    async with TenantServer(tmp_path, keys=False).running() as server:
        await server.call("")
        assert [*server.sessions.hub.streams] == [(DEFAULT, CALL)]
        listener = await server.listening("")
        assert listener.events[0]["matched"] == 1
        _status, body = await server.ask("", "GET", "/v1/streams")
        assert "tenant" not in body["streams"][0]


async def test_a_recording_is_audited_with_its_tenant(server: TenantServer) -> None:
    job, _ = await server.recording("acme")
    server.jobs.services.audit(job.upload, FileOptions(), job.principal)
    event, details = server.sessions.audit.records[-1]
    assert (event, details["tenant"], details["key"]) == ("file.start", "acme", "acme")


def test_every_endpoint_is_in_the_matrix(server: TenantServer) -> None:
    """A new path that needs a key has to state here what another tenant gets from it."""
    from stream.server.access.gate import SCOPES

    tested = {"/v1/files", "/v1/files/", "/v1/results/", "/v1/streams", "/v1/streams/"}
    tested |= {"/v1/feedback", "/v1/feedback/"}  # test_feedback.py: nothing crosses tenants
    tested |= {"/v1/history", "/v1/history/"}  # test_history.py: others are neither seen nor erased
    tested |= {"/v1/groups"}  # delivery/test_groups.py: a tenant sees its own groups
    assert set(SCOPES) - tested == {"/metrics"}, "metrics: only for keys that watch all tenants"
    calls = {"/", *(f"/v1/{name}" for name in ("asterisk", "audiohook", "l16", "twilio"))}
    producers = {"/v1/stream"} | calls  # streams of the key's own tenant
    assert set(server.router.routes) == {"/v1/subscribe", "/v1/files"} | producers


def test_timing_of_a_refusal_does_not_depend_on_the_number_of_foreign_streams() -> None:
    """The stream is looked up by tenant and id, so nothing of another tenant is read."""
    hub = Sessions().hub

    class Untouchable(dict[Any, Any]):
        def values(self) -> Any:
            raise AssertionError("another tenant's streams were read")

    hub.streams = Untouchable()
    assert hub.find(Principal("k", "globex"), CALL) is None
    assert hub.find(Principal("k", "globex"), CALL, "acme") is None


async def test_metrics_count_by_tenant(server: TenantServer) -> None:
    await server.call("acme")
    text = server.sessions.metrics.text().decode()
    assert 'emotide_tenant_sessions_active{tenant="acme"} 1.0' in text
    assert 'emotide_tenant_score_latency_seconds_count{tenant="acme"} ' in text
