"""Endpoints of telephony systems on a real server: keys, tenants, refusals, calls with one id."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from stream.server.access.auth import make_key
from tests.support.clients import Client, connect, subscriber
from tests.support.running import Server, running_server
from tests.support.scheduling import until

SECRET, DIGEST = make_key()
WATCHER, WATCHER_DIGEST = make_key()
START = (
    "MEDIA_START connection_id:emotide channel:WebSocket/emotide/0x1 channel_id:{} format:ulaw "
    "optimal_frame_size:160 ptime:20"
)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    """A server whose only producer's key belongs to the tenant acme."""
    config = f"""
[auth.keys.pbx]
sha256 = "{DIGEST}"
scopes = ["stream"]
tenant = "acme"
[auth.keys.watcher]
sha256 = "{WATCHER_DIGEST}"
scopes = ["subscribe", "metrics"]
tenants = ["*"]
"""
    with running_server(config=config) as server:
        yield server


async def call(server: Server, path: str = "/v1/asterisk", **options: Any) -> None:
    """Start a call and end it."""
    async with connect(server, path, **options) as peer:
        await peer.text(START.format("1.1"))
        await peer.audio(b"\xff" * 160)
        await peer.socket.close()


@pytest.mark.parametrize(
    ("path", "query", "headers"),
    [
        ("/v1/asterisk", {}, {"Authorization": f"Bearer {SECRET}"}),
        (
            "/v1/asterisk",
            {},
            {"Authorization": "Basic " + base64.b64encode(f"pbx:{SECRET}".encode()).decode()},
        ),
        ("/v1/asterisk", {}, {"X-API-Key": SECRET}),
        (f"/v1/asterisk/{SECRET}", {}, {}),
        ("/v1/asterisk", {"key": SECRET, "call": "c1"}, {}),
    ],
    ids=["bearer", "basic", "header", "path", "query"],
)
async def test_a_key_opens_the_endpoint_and_names_the_tenant(
    keyed: Server, path: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """The key is neither an attribute of the call nor in the log."""
    watcher = {"Authorization": f"Bearer {WATCHER}"}
    async with connect(keyed, "/v1/subscribe", additional_headers=watcher) as watching:
        await watching.send("subscribe", id="s1")
        await watching.until("subscribed")
        await call(keyed, path, query=query, additional_headers=headers)
        created = await watching.until("session.created")
        await watching.until("session.closed")
    assert created["tenant"] == "acme"
    assert SECRET not in str(watching.events)
    assert SECRET not in keyed.log()
    assert SECRET not in str(keyed.get("/metrics", headers=watcher))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/asterisk", {}),
        ("/v1/asterisk/emk_wrong-secret", {}),
        ("/v1/asterisk?key=emk_wrong-secret", {}),
        ("/v1/asterisk", {"X-API-Key": "emk_wrong-secret"}),
        ("/v1/asterisk", {"Authorization": "Basic eDplbWtfd3Jvbmctc2VjcmV0"}),
        (f"/v1/asterisk/{WATCHER}", {}),
    ],
    # Keys are random, and all workers of a run must collect the same names.
    ids=["none", "in path", "in query", "header", "password", "no scope"],
)
async def test_a_call_without_a_key_is_refused(
    keyed: Server, path: str, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await call(keyed, path, additional_headers=headers)
    assert refused.value.response.status_code == (403 if WATCHER in path else 401)
    for secret in ("wrong-secret", WATCHER):
        assert secret not in keyed.log()


async def test_only_telephony_endpoints_take_a_key_behind_the_path(keyed: Server) -> None:
    for path in (f"/v1/stream/{SECRET}", f"/v1/asterisk/{SECRET}/more", "/v1/unknown"):
        with pytest.raises(InvalidStatus) as refused:
            await call(keyed, path)
        assert refused.value.response.status_code == 404


async def test_two_calls_with_one_id_are_two_streams() -> None:
    """A constant UUID in a dialplan, or the same recording of a request twice: the second call
    neither ends nor is ended."""
    with running_server() as server:
        async with subscriber(server) as watching, connect(server, "/v1/asterisk") as one:
            await one.text(START.format("same"))
            await watching.until("session.created")
            async with connect(server, "/v1/asterisk") as other:
                await other.text(START.format("same"))
                created = await watching.until("session.created", count=2)
                assert created["stream_id"] != "same"
                note = await watching.until("session.annotated", count=2)
                assert note["attrs"] == {"call_id": "same"}
                await other.socket.close()
                closed = await watching.until("session.closed")
            assert closed["stream_id"] == created["stream_id"]
            assert one.code is None
        warned = [x for x in server.lines if x["event"].startswith("two calls have one id")]
        assert len(warned) == 1


async def test_a_mistake_is_logged_because_the_peer_is_not_told() -> None:
    """The log has one record for each kind of mistake of a call, however often it is made."""
    with running_server() as server:
        async with connect(server, "/v1/asterisk") as peer:
            for _ in range(5):
                await peer.audio(bytes(160))
            await until(lambda: bool(_mistakes(server)))
            await peer.text(START.format("1.1").replace("ulaw", "opus"))
            assert await peer.closed() == 4415
            assert peer.events == []
        await until(lambda: len(_mistakes(server)) == 2)
        early, codec = _mistakes(server)
    assert (early["event"], early["why"]) == ("call has mistakes", "audio came before MEDIA_START")
    assert (codec["event"], codec["code"]) == ("call refused", "unsupported_encoding")


def _mistakes(server: Server) -> list[dict[str, Any]]:
    return [x for x in server.lines if x["event"] in ("call refused", "call has mistakes")]


async def test_a_peer_that_never_starts_or_never_speaks() -> None:
    """The first is closed. The second may be a caller who listens: its call goes on."""
    sets = ("limits.start_timeout_s=0.4", "limits.idle_timeout_s=1.6")
    with running_server(*(x for s in sets for x in ("--set", s))) as server:
        async with connect(server, "/v1/asterisk") as silent, subscriber(server) as watching:
            assert await silent.closed() == 4408
            async with connect(server, "/v1/asterisk") as listener:
                await listener.text(START.format("1.1"))
                await watching.until("session.created")
                await until(lambda: _audio_ms(server) > 2_500)
                assert listener.code is None


def _audio_ms(server: Server) -> float:
    return server.metric("emotide_audio_seconds_total") * 1000


async def test_disabled_dialects_are_not_found() -> None:
    with running_server("--set", "telephony.dialects=[]") as server:
        with pytest.raises(InvalidStatus) as refused:
            await call(server)
        assert refused.value.response.status_code == 404
        assert server.get("/v1/asterisk")[0] == 404


async def test_a_drained_server_closes_calls() -> None:
    with running_server() as server:
        peers: list[Client] = []
        async with connect(server, "/v1/asterisk") as peer:
            await peer.text(START.format("1.1"))
            await until(lambda: len(server.json("/v1/streams")["streams"]) == 1)
            server.signal()
            assert await peer.closed() == 1012
            peers.append(peer)
        assert server.exit() == 0
    assert peers[0].events == []
