"""Quotas of keys and tenants at every endpoint, in process: who is refused, and who is not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest

from stream.tenants import Principal
from tests.support.in_process import Peer
from tests.support.scheduling import until
from tests.support.tenants import TenantServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TenantServer]:
    async with TenantServer(tmp_path).running() as running:
        yield running


def refusal(peer: Peer) -> tuple[int, str, str]:
    assert peer.refusal is not None, "the connection was accepted"
    text = orjson.loads(peer.refusal.body)["error"]
    return peer.refusal.status_code, text, peer.refusal.headers["Retry-After"]


async def test_a_key_that_has_its_streams_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async with TenantServer(tmp_path, max_sessions=4).running() as server:
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
    async with TenantServer(tmp_path, max_sessions=4).running() as server:
        late = server.connect("/v1/stream", "acme")
        for n in range(2):
            await server.call("acme", f"call-{n}")
        late.say("session.update", session={"audio": {"sample_rate": 16000}})
        error = await late.event("error")
        assert (error["code"], error["retry_after_s"]) == ("quota_exceeded", 5.0)
        await until(lambda: late.closes == [(4429, "quota_exceeded")])


async def test_a_full_key_may_still_return_to_its_stream_and_take_over(tmp_path: Path) -> None:
    async with TenantServer(tmp_path, max_sessions=4).running() as server:
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
    async with TenantServer(tmp_path, max_sessions=4).running() as server:
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
    async with TenantServer(tmp_path, max_subscribers=4).running() as server:
        for _ in range(2):
            await server.listening("acme")
        status, text, _ = refusal(server.connect("/v1/subscribe", "acme"))
        assert (status, "auth.keys.acme.quota.subscribers" in text) == (429, True)
        await server.listening("globex")


async def test_a_key_that_has_its_recordings_is_refused_over_both_ways(
    server: TenantServer,
) -> None:
    for _ in range(2):
        server.connect("/v1/files", "acme")
    status, text, _ = refusal(server.connect("/v1/files", "acme"))
    assert (status, "auth.keys.acme.quota.recordings" in text) == (429, True)
    status, body = await server.ask("acme", "POST", "/v1/files")
    assert (status, body["code"], body["retry_after_s"]) == (429, "quota_exceeded", 5.0)
    server.connect("/v1/files", "globex").handler.disconnected(None)


async def test_a_key_with_too_many_unused_tickets_is_refused(server: TenantServer) -> None:
    [key] = [key for key in server.authenticator._keys.values() if key.name == "acme"]
    for _ in range(5_000):
        server.authenticator.ticket(key)
    status, body = await server.ask("acme", "POST", "/v1/token")
    assert (status, "auth.keys.acme.quota.tickets" in body["error"]) == (429, True)
    assert (await server.ask("globex", "POST", "/v1/token"))[0] == HTTPStatus.OK


async def test_requests_of_a_key_beyond_its_rate_are_refused(server: TenantServer) -> None:
    for bucket in server.sessions.services.quotas._of("requests_per_s", Principal("acme", "acme")):
        bucket.take(1000, time.monotonic())
    status, body = await server.ask("acme", "GET", "/v1/streams")
    assert (status, "requests per second" in body["error"]) == (429, True)
    assert (await server.ask("globex", "GET", "/v1/streams"))[0] == HTTPStatus.OK
    assert (await server.ask("", "GET", "/healthz"))[0] == HTTPStatus.OK
