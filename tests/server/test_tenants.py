"""Tenants do not see, hear, end or continue what another tenant sends: every endpoint, in process.

Any key with the scope `stream` could end another customer's call with `takeover=true`, take a call
whose connection had just broken, and any key with `subscribe` heard every call of the server.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import httpx2
import orjson
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.config import Config
from stream.protocol.messages import FileOptions
from stream.recordings.background import BackgroundJob, BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
from stream.recordings.upload import Upload
from stream.server.access.auth import TICKET, Authenticator, Key, make_key
from stream.server.access.gate import Gate
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.websocket import WebSocketConnection
from stream.server.endpoints.router import Router
from stream.server.endpoints.routes import paths, recordings_busy, routes
from stream.server.http.application import Http
from stream.server.http.file_requests import FileRequests
from stream.server.process.lifecycle import Lifecycle
from stream.tenants import DEFAULT, Principal
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.transport import FakeTransport
from tests.support.utterances import talk

NAMES = ("plain", "acme", "acme2", "globex", "both", "ops")
SECRETS = {name: make_key() for name in NAMES}
TENANT = {"acme": "acme", "acme2": "acme", "globex": "globex", "both": "globex"}
WATCHED = {"both": ["acme"], "ops": ["*"]}
CALL = "call-1"
MISSING = "call-9"
"""As long as `CALL`, so that answers that quote an id have one length."""


class Peer(FakeTransport):
    """The client's end of a WebSocket on a server in this process."""

    def __init__(self, server: Server, path: str, key: str, *protocols: str) -> None:
        super().__init__()
        self.max_bytes = 0
        self.silent_s = 0.0
        self.queue = FairQueue()
        self.usage = self.queue.usage()
        self.meter: Callable[[int], float] = lambda size: 0.0
        headers = [("Host", "localhost"), ("Sec-WebSocket-Protocol", ", ".join(protocols))]
        if key:
            headers.append(("Authorization", f"Bearer {SECRETS[key][0]}"))
        connection = cast(WebSocketConnection, self)
        made = server.router.upgrade(connection, Request(path, Headers(headers)))
        self.refusal = made if isinstance(made, Response) else None
        if not isinstance(made, Response):
            server.router.connections.add(connection)
            self.handler = made()

    def tick(self) -> None: ...

    def charge(self, messages: int) -> None: ...

    def say(self, event_type: str, **fields: Any) -> None:
        self.handler.received(orjson.dumps({"type": event_type, **fields}).decode())

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(message) for message in self.sent]

    async def event(self, event_type: str) -> dict[str, Any]:
        await until(lambda: event_type in [event["type"] for event in self.events])
        return next(event for event in self.events if event["type"] == event_type)


class Server:
    """All endpoints of a server with keys of three tenants, without sockets."""

    def __init__(self, folder: Path, keys: bool = True, **limits: Any) -> None:
        tables = {
            name: {
                "sha256": SECRETS[name][1],
                "tenant": TENANT.get(name, DEFAULT),
                "tenants": WATCHED.get(name, []),
            }
            for name in NAMES
        }
        config = Config.model_validate(
            {
                "files": {"folder": folder, "max_clients": 4},
                "auth": {"keys": tables if keys else {}},
                "limits": limits,
            }
        )
        self.sessions = Sessions(config=config)
        services = self.sessions.services
        self.lifecycle = Lifecycle()
        made = (
            Key(name, key.sha256, frozenset(key.scopes), key.tenant, frozenset(key.tenants))
            for name, key in config.auth.keys.items()
        )
        self.authenticator = Authenticator(made, quotas=services.quotas)
        gate = Gate(
            config.server, self.authenticator, services.metrics, paths(config), services.quotas
        )
        self.router = Router(gate, self.lifecycle, services.quotas)
        self.store = ResultStore(folder, 3600)
        self.disk = DiskExecutor()
        recordings = RecordingServices(services, self.store, self.disk, JobQueue(2))
        self.jobs = BackgroundJobs(recordings)
        self.router.routes |= routes(services, self.sessions.registry, self.jobs, self.router)
        self.lifecycle.serve()
        files = FileRequests(
            config,
            self.lifecycle,
            services.metrics,
            lambda: self.jobs,
            lambda principal: recordings_busy(
                config.files, self.router, self.jobs, services.quotas, principal
            ),
            services.quotas,
        )
        app = Http(gate, {}, self.sessions.hub, services.metrics.text, self.store, 4, files).app()
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://localhost"
        )

    def connect(self, path: str, key: str = "", *protocols: str) -> Peer:
        return Peer(self, path, key, *protocols)

    async def call(self, key: str, stream_id: str = CALL, options: str = "") -> Peer:
        """Start a stream and send some speech."""
        peer = self.connect(
            f"/v1/stream?sample_rate=16000&stream_id={stream_id}&tag=q:1{options}", key
        )
        await peer.event("session.created")
        peer.handler.received(talk(1.5))
        await peer.event("emotion.score")
        return peer

    async def ask(self, key: str, method: str, path: str) -> tuple[int, Any]:
        """Return status and body of an HTTP request."""
        headers = {"Authorization": f"Bearer {SECRETS[key][0]}"} if key else {}
        response = await self._client.request(method, path, headers=headers)
        is_json = response.content and "json" in response.headers["content-type"]
        return response.status_code, response.json() if is_json else response.text

    async def recording(self, key: str) -> tuple[BackgroundJob, str]:
        """Keep a recording of a key, with its result; return it and the address of the result."""
        principal = Principal(key, TENANT.get(key, DEFAULT)) if key else Principal()
        files = self.sessions.config.files
        upload = await Upload.open("a.wav", None, files.max_mb, self.disk, self.store)
        await upload.close()
        (upload.pending.folder / "result.json").write_text("{}")
        stored = self.store.publish(upload.pending, ["result.json"], "a", principal.owner)
        job = BackgroundJob(upload, principal)
        job.status, job.expires = "done", stored.expires
        job.ended.set()
        self.jobs._ended[job.id] = job
        return job, f"/v1/results/{stored.id}/result.json"

    async def close(self) -> None:
        await self._client.aclose()
        self.disk.close()


@contextlib.asynccontextmanager
async def serving(folder: Path, keys: bool = True, **limits: Any) -> AsyncIterator[Server]:
    server = Server(folder / "outputs", keys, **limits)
    await server.sessions.scheduler.start(LENGTHS)
    try:
        async with server.sessions.running():
            yield server
    finally:
        await server.sessions.registry.drain(2.0)
        await server.sessions.scheduler.stop(2.0)
        await server.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def same(one: Any, other: Any) -> None:
    """Compare two answers; they may quote the ids that they are about."""
    texts = [repr(answer).replace(CALL, "ID").replace(MISSING, "ID") for answer in (one, other)]
    assert texts[0] == texts[1]


# -- HTTP --------------------------------------------------------------------------------------

Row = Callable[[Server, str, str], Awaitable[Any]]
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
    server: Server, row: str, key: str
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
    server: Server, key: str, seen: list[tuple[str, str]]
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
    server: Server,
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
async def test_a_recording_of_another_tenant_does_not_exist(server: Server, method: str) -> None:
    job, _ = await server.recording("acme")
    for key in ("globex", "plain", "ops", "both", "acme2"):
        other = await server.ask(key, method, f"/v1/files/{job.id}")
        assert other == await server.ask(key, method, "/v1/files/file_" + "0" * 24)
        assert other[0] == HTTPStatus.NOT_FOUND
    assert (await server.ask("acme", method, f"/v1/files/{job.id}"))[0] < 300


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_result_of_another_tenant_does_not_exist(server: Server, method: str) -> None:
    _, address = await server.recording("acme")
    missing = "/v1/results/" + "x" * 32 + "/result.json"
    for key in ("globex", "plain", "ops", "both", "acme2"):
        other = await server.ask(key, method, address)
        assert other == await server.ask(key, method, missing)
        assert other[0] == HTTPStatus.NOT_FOUND
    assert (await server.ask("acme", method, address))[0] == HTTPStatus.OK


async def test_a_result_from_a_time_without_keys_belongs_to_the_default_tenant(
    server: Server,
) -> None:
    """Without keys everything is of the tenant `default`; later tenants must not inherit it."""
    job, address = await server.recording("")
    for path in (address, f"/v1/files/{job.id}"):
        assert (await server.ask("plain", "GET", path))[0] == HTTPStatus.OK
        assert (await server.ask("acme", "GET", path))[0] == HTTPStatus.NOT_FOUND


async def test_a_result_stays_with_the_tenant_when_a_key_of_the_same_name_moves(
    server: Server,
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
async def test_an_id_may_live_in_two_tenants_at_once(server: Server, takeover: str) -> None:
    """`takeover=true` ended the call of another customer who used the same id."""
    first = await server.call("acme")
    second = await server.call("globex", options=takeover)
    assert "session.closed" not in [event["type"] for event in first.events]
    assert first.closes == second.closes == []
    assert len(server.sessions.registry) == 2
    first.handler.received(talk(1.5))
    await until(lambda: [e["type"] for e in first.events].count("emotion.score") >= 2)


async def test_within_a_tenant_an_id_is_unique_whatever_the_key(server: Server) -> None:
    first = await server.call("acme")
    path = f"/v1/stream?sample_rate=16000&stream_id={CALL}"
    refused = server.connect(path, "acme2")
    assert (await refused.event("error"))["code"] == "stream_conflict"
    await server.call("acme2", options="&takeover=true")
    assert first.events[-1]["type"] == "session.closed"


async def test_a_broken_connection_does_not_give_the_stream_to_another_tenant(
    server: Server,
) -> None:
    """A detached stream is taken by anybody who asks for its id; only its own tenant may ask."""
    first = await server.call("acme")
    token = (await first.event("session.created"))["resume_token"]
    first.handler.disconnected(None)
    await server.call("globex")
    again = server.connect(f"/v1/stream?resume={token}", "acme2")
    await again.event("session.resumed")


async def test_a_resume_token_of_another_tenant_is_unknown(server: Server) -> None:
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


async def listening(server: Server, key: str, **fields: Any) -> Peer:
    peer = server.connect("/v1/subscribe", key)
    peer.say("subscribe", **fields)
    await peer.event("subscribed")
    return peer


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
    server: Server, key: str, fields: dict[str, Any]
) -> None:
    """Neither what happens, nor what happened, nor that there is anything to hear."""
    producer = await server.call("acme")
    stranger = await listening(server, key, **fields)
    friend = await listening(server, "acme2", **fields)
    producer.handler.received(talk(1.5))
    producer.say("session.close")
    await friend.event("session.closed")
    assert [event["type"] for event in stranger.events] == ["subscribed", "snapshot"]
    assert stranger.events[0]["matched"] == 0
    assert stranger.events[1]["streams"] == []


async def test_who_watches_others_hears_them_with_their_tenant(server: Server) -> None:
    await server.call("acme")
    await server.call("plain")
    listener = await listening(server, "both", since={f"acme/{CALL}": -1})
    late = await server.call("globex")
    late.say("session.close")
    await listener.event("session.closed")
    heard = {(e["tenant"], e["stream_id"]) for e in listener.events if "seq" in e}
    assert heard == {("acme", CALL), ("globex", CALL)}
    [snapshot] = [event for event in listener.events if event["type"] == "snapshot"]
    assert [stream["tenant"] for stream in snapshot["streams"]] == ["acme"]
    replayed = [e for e in listener.events if e.get("tenant") == "acme" and e["type"] != "snapshot"]
    assert replayed[0]["type"] == "session.created"


async def test_a_filter_selects_tenants(server: Server) -> None:
    await server.call("acme")
    await server.call("globex")
    listener = await listening(server, "ops", filter={"tenants": ["globex"]})
    [snapshot] = [event for event in listener.events if event["type"] == "snapshot"]
    assert [stream["tenant"] for stream in snapshot["streams"]] == ["globex"]


async def test_a_ticket_carries_the_tenant_of_its_key(server: Server) -> None:
    await server.call("acme")
    for key, matched in (("globex", 0), ("acme", 1)):
        [known] = [k for k in server.authenticator._keys.values() if k.name == key]
        ticket = server.authenticator.ticket(known)
        peer = server.connect("/v1/subscribe", "", "emotide.v1", TICKET + ticket)
        peer.say("subscribe")
        assert (await peer.event("subscribed"))["matched"] == matched


async def test_the_audit_log_names_tenant_and_key(server: Server) -> None:
    producer = await server.call("acme")
    await listening(server, "globex")
    producer.say("session.close")
    await producer.event("session.closed")
    records = dict(server.sessions.audit.records)
    assert (records["session.start"]["tenant"], records["session.start"]["key"]) == ("acme", "acme")
    assert records["session.end"]["tenant"] == "acme"
    assert records["subscribe"]["tenant"] == "globex"


async def test_without_keys_every_request_is_of_the_default_tenant(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=False) as server:
        await server.call("")
        assert [*server.sessions.hub.streams] == [(DEFAULT, CALL)]
        listener = await listening(server, "")
        assert listener.events[0]["matched"] == 1
        _status, body = await server.ask("", "GET", "/v1/streams")
        assert "tenant" not in body["streams"][0]


async def test_a_recording_is_audited_with_its_tenant(server: Server) -> None:
    job, _ = await server.recording("acme")
    server.jobs.services.audit(job.upload, FileOptions(), job.principal)
    event, details = server.sessions.audit.records[-1]
    assert (event, details["tenant"], details["key"]) == ("file.start", "acme", "acme")


def test_every_endpoint_is_in_the_matrix(server: Server) -> None:
    """A new path that needs a key has to state here what another tenant gets from it."""
    from stream.server.access.gate import SCOPES

    tested = {"/v1/files", "/v1/files/", "/v1/results/", "/v1/streams", "/v1/streams/"}
    tested |= {"/v1/feedback", "/v1/feedback/"}  # test_feedback.py: nothing crosses tenants
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


# -- quotas ------------------------------------------------------------------------------------


def refusal(peer: Peer) -> tuple[int, str, str]:
    assert peer.refusal is not None, "the connection was accepted"
    text = orjson.loads(peer.refusal.body)["error"]
    return peer.refusal.status_code, text, peer.refusal.headers["Retry-After"]


async def test_a_key_that_has_its_streams_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async with serving(tmp_path, max_sessions=4) as server:
        calls = [await server.call("acme", f"call-{n}") for n in range(2)]
        status, text, retry = refusal(server.connect("/v1/stream?sample_rate=16000", "acme2"))
        assert (status, retry) == (429, "5")
        assert text.startswith("quota_exceeded: the tenant 'acme' may have 2 streams at a time")
        status, text, _ = refusal(server.connect("/v1/stream?sample_rate=16000", "acme"))
        assert "the key 'acme' may have 2 streams" in text
        await server.call("globex")
        calls[0].say("session.close")
        await calls[0].event("session.closed")
        await server.call("acme2", "call-0")


async def test_a_session_that_is_configured_late_is_refused_with_an_error(tmp_path: Path) -> None:
    """The URL is checked before the upgrade, but `session.update` comes after it."""
    async with serving(tmp_path, max_sessions=4) as server:
        late = server.connect("/v1/stream", "acme")
        for n in range(2):
            await server.call("acme", f"call-{n}")
        late.say("session.update", session={"audio": {"sample_rate": 16000}})
        error = await late.event("error")
        assert (error["code"], error["retry_after_s"]) == ("quota_exceeded", 5.0)
        await until(lambda: late.closes == [(4429, "quota_exceeded")])


async def test_a_full_key_may_still_return_to_its_stream_and_take_over(tmp_path: Path) -> None:
    async with serving(tmp_path, max_sessions=4) as server:
        first = await server.call("acme", "call-0")
        await server.call("acme", "call-1")
        token = (await first.event("session.created"))["resume_token"]
        first.handler.disconnected(None)
        again = server.connect(f"/v1/stream?resume={token}", "acme")
        await again.event("session.resumed")
        await server.call("acme", "call-1", "&takeover=true")
        again.handler.disconnected(None)
        await server.call("acme", "call-0")


async def test_parked_streams_of_a_full_key_end_for_its_new_ones(tmp_path: Path) -> None:
    """A key whose producers come back as new streams was refused for as long as the old ones wait.

    They make room, and nobody else's do.
    """
    async with serving(tmp_path, max_sessions=4) as server:
        theirs = await server.call("globex", "theirs")
        theirs.handler.disconnected(None)
        old = await server.call("acme", "old")
        token = (await old.event("session.created"))["resume_token"]
        old.handler.disconnected(None)
        await server.call("acme", "new-1")
        await server.call("acme", "new-2")
        assert (await server.ask("acme", "GET", "/v1/streams/old"))[0] == HTTPStatus.NOT_FOUND
        late = server.connect(f"/v1/stream?resume={token}", "acme")
        await until(lambda: "unknown_stream" in [e.get("code") for e in late.events])
        assert (await server.ask("globex", "GET", "/v1/streams/theirs"))[0] == HTTPStatus.OK
        assert refusal(server.connect("/v1/stream?sample_rate=16000", "acme"))[0] == 429


async def test_a_key_that_has_its_subscribers_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, max_subscribers=4) as server:
        for _ in range(2):
            await listening(server, "acme")
        status, text, _ = refusal(server.connect("/v1/subscribe", "acme"))
        assert (status, "auth.keys.acme.quota.subscribers" in text) == (429, True)
        await listening(server, "globex")


async def test_a_key_that_has_its_recordings_is_refused_over_both_ways(server: Server) -> None:
    for _ in range(2):
        server.connect("/v1/files", "acme")
    status, text, _ = refusal(server.connect("/v1/files", "acme"))
    assert (status, "auth.keys.acme.quota.recordings" in text) == (429, True)
    status, body = await server.ask("acme", "POST", "/v1/files")
    assert (status, body["code"], body["retry_after_s"]) == (429, "quota_exceeded", 5.0)
    server.connect("/v1/files", "globex").handler.disconnected(None)


async def test_a_key_with_too_many_unused_tickets_is_refused(server: Server) -> None:
    [key] = [key for key in server.authenticator._keys.values() if key.name == "acme"]
    for _ in range(5_000):
        server.authenticator.ticket(key)
    status, body = await server.ask("acme", "POST", "/v1/token")
    assert (status, "auth.keys.acme.quota.tickets" in body["error"]) == (429, True)
    assert (await server.ask("globex", "POST", "/v1/token"))[0] == HTTPStatus.OK


async def test_requests_of_a_key_beyond_its_rate_are_refused(server: Server) -> None:
    for bucket in server.sessions.services.quotas._of("requests_per_s", Principal("acme", "acme")):
        bucket.take(1000, time.monotonic())
    status, body = await server.ask("acme", "GET", "/v1/streams")
    assert (status, "requests per second" in body["error"]) == (429, True)
    assert (await server.ask("globex", "GET", "/v1/streams"))[0] == HTTPStatus.OK
    assert (await server.ask("", "GET", "/healthz"))[0] == HTTPStatus.OK


async def test_metrics_count_by_tenant(server: Server) -> None:
    await server.call("acme")
    text = server.sessions.metrics.text().decode()
    assert 'emotide_tenant_sessions_active{tenant="acme"} 1.0' in text
    assert 'emotide_tenant_score_latency_seconds_count{tenant="acme"} ' in text
