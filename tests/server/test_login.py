"""Requests to a server with keys: admitted, refused, and by ticket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import InvalidStatus

from stream.server.access.auth import TICKET, make_key
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
def test_public_paths_need_no_key(server: Server, path: str) -> None:
    assert server.get(path)[0] == 200


def test_info_reports_that_a_login_is_required(server: Server) -> None:
    assert json.loads(server.get("/v1/info")[2])["login"] is True


@pytest.mark.parametrize(
    ("path", "scope"),
    [("/metrics", "metrics"), ("/v1/groups", "subscribe"), ("/v1/streams", "subscribe")],
)
def test_documents_need_a_key_with_their_scope(server: Server, path: str, scope: str) -> None:
    status, headers, body = server.get(path)
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="emotide"'
    assert "requires a key" in json.loads(body)["error"]
    assert server.get(path, headers=bearer(FULL))[0] == 200
    status, _, body = server.get(path, headers=bearer(LISTENER))
    assert status == (200 if scope == "subscribe" else 403)


async def test_upgrades_need_a_key_with_their_scope(server: Server) -> None:
    for headers, status in ((None, 401), (bearer("emk_wrong"), 401), (bearer(LISTENER), 403)):
        with pytest.raises(InvalidStatus) as caught:
            await websocket(server.ws + "/v1/stream", additional_headers=headers)
        assert caught.value.response.status_code == status
    async with websocket(
        server.ws + "/v1/stream?sample_rate=16000", additional_headers=bearer(FULL)
    ) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"


async def test_a_browser_connects_once_with_a_ticket(server: Server) -> None:
    """A browser cannot set a header on a WebSocket, but it can choose subprotocols."""
    status, headers, body = server.get("/v1/token", "POST", bearer(LISTENER))
    assert status == 200
    assert headers["cache-control"] == "no-store"
    granted = json.loads(body)
    assert granted["expires_s"] == 60
    offered = ["emotide.v1", TICKET + granted["ticket"]]

    url = server.ws + "/v1/subscribe"
    async with websocket(url, subprotocols=offered) as socket:
        assert socket.subprotocol == "emotide.v1", "the ticket is not sent back"
    with pytest.raises(InvalidStatus) as caught:
        await websocket(url, subprotocols=offered)
    assert caught.value.response.status_code == 401


def test_requesting_a_ticket_needs_a_key(server: Server) -> None:
    assert server.get("/v1/token", "POST")[0] == 401
    assert server.get("/v1/token", "POST", bearer("emk_wrong"))[0] == 401
    assert server.get("/v1/token", headers=bearer(FULL))[0] == 405


def test_refusals_are_counted(server: Server) -> None:
    server.get("/metrics")
    text = server.get("/metrics", headers=bearer(FULL))[2].decode()
    assert 'emotide_protocol_errors_total{code="unauthorized"}' in text
