"""Genesys AudioHook against a real server: keys and signatures, sessions, probes, the end."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream.server.access.auth import make_key
from tests.support.audiohook import NULL, PATH, genesys, request_headers
from tests.support.clients import subscriber
from tests.support.running import Gate, Server, running_server
from tests.support.utterances import encode, speech

SIGNED, SIGNED_DIGEST = make_key()
PLAIN, PLAIN_DIGEST = make_key()
LISTENER, LISTENER_DIGEST = make_key()
SECRET = b"audiohook-client-secret-32-bytes"
SECRET_TEXT = base64.b64encode(SECRET).decode()
KEYS = f"""
[auth.keys]
signed = {{sha256 = "{SIGNED_DIGEST}", scopes = ["stream"], tenant = "acme"}}
plain = {{sha256 = "{PLAIN_DIGEST}", scopes = ["stream"]}}
listener = {{sha256 = "{LISTENER_DIGEST}", scopes = ["subscribe", "metrics"], tenants = ["*"]}}

[telephony]
audiohook_secrets = {{signed = "{SECRET_TEXT}"}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """Yield a server with keys, which logs everything; no secret may be in its log."""
    with running_server("--set", "log.level=debug", config=KEYS) as running:
        yield running
        log = running.log()
        for secret in (SIGNED, PLAIN, SECRET_TEXT, SECRET.decode()):
            assert secret not in log


def stereo() -> bytes:
    """Return a call of real speech: the customer on the first channel, mu-law at 8 kHz."""
    mono = encode(speech(), "mulaw", 8000)
    return bytes(byte for sample in mono for byte in (sample, 0xFF))


async def test_a_call_is_scored_for_subscribers_and_not_for_genesys(server: Server) -> None:
    async with genesys(server) as call, subscriber(server) as listener:
        opened = await call.open(customConfig={"tags": ["queue:billing"]})
        assert opened["parameters"]["media"][0]["channels"] == ["external", "internal"]
        data = stereo()
        await call.audio(data[:40_001], 3200)
        await call.send("ping")
        assert (await call.receive("pong"))["clientseq"] == 2
        await call.audio(data[40_001:], 4_807)
        await call.close()
        closed = await listener.until("session.closed")
    assert closed["stream_id"] == call.session
    assert closed["reason"] == "completed"
    created = listener.of("session.created")[0]["session"]
    assert created["audio"]["roles"] == ["customer", "agent"]
    assert created["tags"] == ["queue:billing"]
    assert listener.of("emotion.segment")
    assert {event["role"] for event in listener.of("emotion.score")} == {"customer"}


async def test_a_call_that_was_closed_is_complete_although_audio_waits(server: Server) -> None:
    """The client closes the connection at once; the rest of its audio waits for real time.

    It was reported as client_closed, as if the client had left without `close`.
    """
    async with subscriber(server) as listener:
        async with genesys(server) as call:
            await call.open()
            await call.audio(stereo() + stereo()[:80_000])
            await call.close()
        closed = await listener.until("session.closed")
    assert closed["reason"] == "completed"
    assert closed["totals"]["audio_ms"] == (len(stereo()) + 80_000) // 16


async def test_a_probe_is_no_stream(server: Server) -> None:
    before = server.metric("emotide_probes_total", adapter="audiohook")
    sessions = server.metric("emotide_sessions_total", adapter="audiohook")
    async with genesys(server) as probe:
        await probe.open(NULL)
        await probe.socket.send(b"")
        await probe.close()
    assert server.metric("emotide_probes_total", adapter="audiohook") == before + 1
    assert server.metric("emotide_sessions_total", adapter="audiohook") == sessions
    assert probe.session not in str(server.json("/v1/streams"))


async def test_pauses_and_discarded_audio_move_the_clock(server: Server) -> None:
    async with genesys(server) as call, subscriber(server) as listener:
        await call.open()
        await call.audio(b"\xff" * 16_000)
        await call.send("discarded", start="PT1S", discarded="PT1.5S")
        await call.send("paused")
        paused = await listener.until("stream.paused")
        await call.send("resumed", start="PT2.5S", discarded="PT2S")
        resumed = await listener.until("stream.resumed")
        await call.audio(b"\xff" * 16_000)
        await call.close()
        closed = await listener.until("session.closed")
    assert (paused["audio_ms"], resumed["audio_ms"]) == (2_500, 4_500)
    assert listener.of("session.annotated")[0]["mark"] == "discarded 1.5 s"
    assert closed["totals"]["audio_ms"] == 5_500


async def test_a_wrong_number_ends_the_session_in_order(server: Server) -> None:
    """The client gets the reason, sends `close`, gets `closed`, and closes the connection."""
    async with genesys(server) as call:
        await call.open()
        next(call._numbers)
        await call.send("ping")
        disconnect = await call.receive("disconnect")
        assert disconnect["parameters"]["reason"] == "error"
        assert "seq is 3 and should be 2" in disconnect["parameters"]["info"]
        await call.close("disconnect")
        assert call.socket.close_code in (1000, 1005)


async def test_audio_before_open_ends_the_session_in_order(server: Server) -> None:
    async with genesys(server) as call:
        await call.socket.send(b"\xff" * 160)
        disconnect = await call.receive("disconnect")
        assert "audio came before opened" in disconnect["parameters"]["info"]


async def test_a_peer_that_never_closes_is_closed() -> None:
    """The server waits for the client to close after `disconnect`, but not for ever."""
    async with asyncio.timeout(60):
        with running_server() as server:
            async with genesys(server) as call:
                await call.open()
                await call.socket.send("x")
                await call.receive("disconnect")
                with pytest.raises(ConnectionClosed):
                    await call.receive("anything")
                assert call.socket.close_code == 4400


async def test_two_calls_with_one_id_do_not_mix(server: Server) -> None:
    async with genesys(server) as first, genesys(server, session=first.session) as second:
        await first.open()
        await second.open()
        disconnect = await second.receive("disconnect")
        assert "is live on another connection" in disconnect["parameters"]["info"]
        await second.close("disconnect")
        await first.send("ping")
        await first.receive("pong")
        await first.close()


async def test_a_drain_asks_genesys_to_close() -> None:
    with running_server() as server:
        async with genesys(server) as call:
            await call.open()
            await call.audio(stereo()[:32_000])
            server.signal()
            disconnect = await call.receive("disconnect")
            assert disconnect["parameters"]["reason"] == "completed"
            await call.close("disconnect")
        assert await asyncio.to_thread(server.exit) == 0
        assert not server.non_json


async def test_opened_comes_at_once_while_the_model_hangs(tmp_path: Path) -> None:
    """Genesys gives up 5 s after `open`; others lost calls with slow work before `opened`."""
    gate = Gate(tmp_path / "block")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(model="tests.support.plugins:blocked", env=env) as server:
        async with genesys(server) as busy:
            await busy.open()
            gate.shut()
            await busy.audio(stereo()[:64_000])
            calls = [genesys(server) for _ in range(20)]
            clients = await asyncio.gather(*(call.__aenter__() for call in calls))
            async with asyncio.timeout(5):
                await asyncio.gather(*(client.open() for client in clients))
            gate.open()
            await asyncio.gather(*(client.close() for client in clients))
            await asyncio.gather(*(call.__aexit__(None, None, None) for call in calls))
            await busy.close()


# -- keys ------------------------------------------------------------------------------------


async def test_a_signed_call_belongs_to_the_tenant_of_its_key(locked: Server) -> None:
    async with genesys(locked, SIGNED, SECRET) as call:
        await call.open()
        status, _, body = locked.get("/v1/streams", headers={"Authorization": f"Bearer {LISTENER}"})
        assert status == 200
        assert call.session in body.decode()
        assert '"tenant":"acme"' in body.decode()
        await call.close()


async def test_a_key_without_a_secret_needs_no_signature(locked: Server) -> None:
    async with genesys(locked, PLAIN) as call:
        await call.open()
        await call.close()


async def refusal(server: Server, headers: dict[str, str], path: str = PATH) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await websocket(server.ws + path, additional_headers=headers)
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


async def test_requests_that_are_not_signed_by_the_key_are_refused(locked: Server) -> None:
    session = str(uuid.uuid4())
    good = request_headers(locked, session, SIGNED, SECRET)

    def but(**changes: str) -> dict[str, str]:
        return {**good, **{name.replace("_", "-"): value for name, value in changes.items()}}

    unsigned = {k: v for k, v in good.items() if not k.startswith("signature")}
    wrong_secret = request_headers(locked, session, SIGNED, b"x" * 32)
    bearer = {"Authorization": f"Bearer {SIGNED}"}
    cases = [
        (bearer, "needs a signed request"),
        ({k: v for k, v in good.items() if k != "X-API-KEY"} | bearer, "keyid is not"),
        (request_headers(locked, session), "requires a key"),
        (request_headers(locked, session, "emk_wrong", SECRET), "requires a key"),
        (unsigned, "needs a signed request"),
        (wrong_secret, "wrong signature"),
        (but(**{"Audiohook_Session_Id": str(uuid.uuid4())}), "wrong signature"),
        (but(signature="sig1=:AAAA:"), "wrong signature"),
        (but(signature="rubbish"), "do not hold one signature"),
    ]
    for headers, why in cases:
        status, body = await refusal(locked, headers)
        assert (status, why in body) == (401, True), (status, body, why)
    status, body = await refusal(locked, request_headers(locked, session, LISTENER))
    assert (status, "forbidden" in body) == (403, True)
    status, body = await refusal(locked, good, PATH + "?other=1")
    assert (status, "wrong signature" in body) == (401, True)


async def test_a_replayed_request_is_refused(locked: Server) -> None:
    headers = request_headers(locked, str(uuid.uuid4()), SIGNED, SECRET)
    async with websocket(locked.ws + PATH, additional_headers=headers):
        pass
    status, body = await refusal(locked, headers)
    assert (status, "replayed" in body) == (401, True)


async def test_the_dialect_can_be_switched_off() -> None:
    with running_server("--set", "telephony.dialects=[]") as server:
        assert (await refusal(server, request_headers(server, str(uuid.uuid4()))))[0] == 404
        assert isinstance(server, Server)


def test_a_plain_request_learns_that_this_is_a_websocket(server: Server) -> None:
    assert server.get(PATH)[0] == 426
