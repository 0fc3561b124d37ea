"""A server with keys: who comes in, and who is told what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import InvalidStatus

from stream.server.auth import TICKET, make_key
from tests.support.clients import run
from tests.support.running import Server, running_server

FULL, FULL_DIGEST = make_key()
LISTENER, LISTENER_DIGEST = make_key()
KEYS = (
    f'{{full = {{sha256 = "{FULL_DIGEST}", scopes = ["stream", "subscribe", "metrics"]}}, '
    f'listener = {{sha256 = "{LISTENER_DIGEST}", scopes = ["subscribe"]}}}}'
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--set", f"auth.keys={KEYS}") as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/healthz", "/readyz", "/v1/info", "/asyncapi.yaml"]
)
def test_what_stays_open(server: Server, path: str) -> None:
    assert server.get(path)[0] == 200


def test_the_page_is_told_that_there_is_a_login(server: Server) -> None:
    assert json.loads(server.get("/v1/info")[2])["login"] is True


@pytest.mark.parametrize(("path", "scope"), [("/metrics", "metrics"), ("/v1/streams", "subscribe")])
def test_documents_need_a_key_that_opens_them(server: Server, path: str, scope: str) -> None:
    status, headers, body = server.get(path)
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="emotide"'
    assert "wants a key" in json.loads(body)["error"]
    assert server.get(path, headers=bearer(FULL))[0] == 200
    status, _, body = server.get(path, headers=bearer(LISTENER))
    assert status == (200 if scope == "subscribe" else 403)


def test_upgrades_need_a_key_that_opens_them(server: Server) -> None:
    async def session() -> None:
        for headers, status in ((None, 401), (bearer("emk_wrong"), 401), (bearer(LISTENER), 403)):
            with pytest.raises(InvalidStatus) as caught:
                await websocket(server.ws + "/v1/stream", additional_headers=headers)
            assert caught.value.response.status_code == status
        async with websocket(
            server.ws + "/v1/stream?sample_rate=16000", additional_headers=bearer(FULL)
        ) as socket:
            assert json.loads(await socket.recv())["type"] == "session.created"

    run(session())


def test_a_browser_comes_in_with_a_ticket_once(server: Server) -> None:
    """It cannot set a header on a WebSocket; what it can choose are subprotocols."""
    status, headers, body = server.get("/v1/token", "POST", bearer(LISTENER))
    assert status == 200
    assert headers["cache-control"] == "no-store"
    told = json.loads(body)
    assert told["expires_s"] == 60
    offered = ["emotide.v1", TICKET + told["ticket"]]

    async def session() -> None:
        url = server.ws + "/v1/subscribe"
        async with websocket(url, subprotocols=offered) as socket:
            assert socket.subprotocol == "emotide.v1", "the ticket is not said back"
        with pytest.raises(InvalidStatus) as caught:
            await websocket(url, subprotocols=offered)
        assert caught.value.response.status_code == 401

    run(session())


def test_a_ticket_needs_a_key(server: Server) -> None:
    assert server.get("/v1/token", "POST")[0] == 401
    assert server.get("/v1/token", "POST", bearer("emk_wrong"))[0] == 401
    assert server.get("/v1/token", headers=bearer(FULL))[0] == 405


def test_refusals_are_counted(server: Server) -> None:
    server.get("/metrics")
    text = server.get("/metrics", headers=bearer(FULL))[2].decode()
    assert 'emotide_protocol_errors_total{code="unauthorized"}' in text
