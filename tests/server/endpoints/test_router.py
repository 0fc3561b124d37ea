"""Decisions on WebSocket upgrades without sockets: paths, keys, tickets, origins, capacity."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson
import pytest
from starlette.testclient import TestClient
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.config import Scope, ServerConfig
from stream.delivery.hub import Hub
from stream.delivery.transport import Handler, Message
from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import Query
from stream.quotas import Quotas
from stream.server.access.auth import TICKET, Authenticator, Key, make_key
from stream.server.access.gate import Busy, Gate
from stream.server.connections.websocket import WebSocketConnection
from stream.server.endpoints.router import Accepted, Route, Router
from stream.server.http.application import Http
from stream.server.process.lifecycle import Lifecycle
from stream.telemetry.metrics import Metrics
from stream.tenants import ANYONE, Principal

SECRET, DIGEST = make_key()
KEY = Key("dashboard", DIGEST, frozenset({"subscribe", "files"}))
BEARER = ("Authorization", f"Bearer {SECRET}")
SCOPES: dict[str, Scope] = {
    "/v1/stream": "stream",
    "/v1/subscribe": "subscribe",
    "/v1/files": "files",
}


class FakeConnection:
    """The part of a connection that a router sets."""

    max_bytes = 0
    peer = "127.0.0.1"
    meter: Callable[[int], float]

    def tick(self) -> None: ...


class FakeHandler:
    """A handler that records its close, and may fail."""

    def __init__(self, accepted: Accepted) -> None:
        self.accepted = accepted
        self.ticks = 0
        self.broken = False
        self.closed: list[str] = []

    def tick(self) -> None:
        self.ticks += 1
        if self.broken:
            raise RuntimeError("broken")

    async def close(self, error: ProtocolError) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.closed.append(error.code)

    def received(self, message: Message) -> None: ...

    def resumed(self) -> None: ...

    def disconnected(self, code: int | None) -> None: ...

    def refused(self, code: str, message: str) -> None: ...


class Routing:
    """A router with its real gate; `full` is the answer of the capacity checks."""

    def __init__(self, keys: Sequence[Key] = (), serving: bool = True, **config: Any) -> None:
        self.authenticator = Authenticator(keys)
        self.metrics = Metrics("test")
        self.lifecycle = Lifecycle()
        self.full: Busy | None = None
        self.checked: list[Query] = []
        server = ServerConfig.model_validate(config)
        self.gate = Gate(server, self.authenticator, self.metrics, SCOPES)
        self.router = Router(self.gate, self.lifecycle, Quotas())
        if serving:
            self.router.routes |= {
                path: Route(scope, self._capacity, FakeHandler, 1000, path != "/v1/stream")
                for path, scope in SCOPES.items()
            }
            self.lifecycle.serve()

    def _capacity(self, query: Query, principal: Principal) -> Busy | None:
        self.checked.append(query)
        return self.full

    def route(
        self, path: str, *headers: tuple[str, str], host: str = "localhost"
    ) -> tuple[FakeConnection, Callable[[], Handler] | Response]:
        connection = FakeConnection()
        request = Request(path, Headers([("Host", host), *headers]))
        return connection, self.router.upgrade(cast(WebSocketConnection, connection), request)

    def respond(self, path: str, *headers: tuple[str, str], **options: Any) -> Response:
        response = self.route(path, *headers, **options)[1]
        assert isinstance(response, Response)
        return response

    def upgrades(self, path: str, *headers: tuple[str, str], **options: Any) -> bool:
        return not isinstance(self.route(path, *headers, **options)[1], Response)

    def accept(self, path: str, *headers: tuple[str, str]) -> FakeHandler:
        connection, make = self.route(path, *headers)
        assert not isinstance(make, Response)
        self.router.connections.add(cast(WebSocketConnection, connection))
        handler = make()
        assert isinstance(handler, FakeHandler)
        return handler


@pytest.fixture
def routing() -> Routing:
    return Routing()


@pytest.fixture
def locked() -> Routing:
    """A router that requires a key."""
    return Routing([KEY])


def error(response: Response) -> str:
    return str(orjson.loads(response.body)["error"])


# -- paths and phases --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/subscribe", "/v1/files", "/v1/stream?x=1"])
def test_websocket_paths_are_upgraded(routing: Routing, path: str) -> None:
    assert routing.upgrades(path)


@pytest.mark.parametrize("path", ["/", "/v1/other", "/v1/stream/", "/v1/results/x/result.json"])
def test_a_websocket_on_another_path_is_404(routing: Routing, path: str) -> None:
    response = routing.respond(path)
    assert (response.status_code, error(response)) == (404, "no WebSocket endpoint at this path")


@pytest.mark.parametrize("path", ["//[", "http://[/"])
def test_a_malformed_path_is_400(routing: Routing, path: str) -> None:
    response = routing.respond(path)
    assert (response.status_code, error(response)) == (400, "malformed request path")


def test_while_the_model_loads_an_upgrade_is_503() -> None:
    response = Routing(serving=False).respond("/v1/stream")
    assert (response.status_code, error(response)) == (503, "the model is loading")
    assert response.headers["Retry-After"] == "2"


def test_while_the_server_drains_an_upgrade_is_503(routing: Routing) -> None:
    routing.lifecycle.drain()
    response = routing.respond("/v1/subscribe")
    assert (response.status_code, error(response)) == (503, "draining")


def test_a_server_that_drains_while_it_loads_never_serves() -> None:
    routing = Routing(serving=False)
    routing.lifecycle.drain()
    routing.lifecycle.serve()
    assert routing.lifecycle.draining


def test_the_handler_gets_the_request(locked: Routing) -> None:
    handler = locked.accept("/v1/subscribe?a=1&a=2&b=", BEARER, ("X-Call-Id", "7"))
    accepted = handler.accepted
    assert (accepted.path, accepted.query) == ("/v1/subscribe", {"a": ["1", "2"], "b": [""]})
    assert accepted.headers["x-call-id"] == "7"
    assert accepted.principal == Principal("dashboard")
    assert accepted.connection.max_bytes == 1000


# -- connections that the router keeps ---------------------------------------------------------


async def test_a_drain_closes_kept_handlers_although_one_fails(routing: Routing) -> None:
    broken, subscriber = routing.accept("/v1/subscribe"), routing.accept("/v1/subscribe")
    producer = routing.accept("/v1/stream")
    broken.broken = True
    await routing.router.close(ProtocolError("draining", "bye"))
    assert subscriber.closed == ["draining"]
    assert producer.closed == [], "the registry closes producers"


def test_only_open_connections_count(routing: Routing) -> None:
    first = routing.accept("/v1/subscribe")
    routing.accept("/v1/subscribe")
    routing.accept("/v1/stream")
    assert routing.router.count(FakeHandler) == 2
    routing.router.connections.discard(first.accepted.connection)
    assert routing.router.count(FakeHandler) == 1


# -- hosts, origins, capacity ------------------------------------------------------------------


def test_a_local_server_serves_known_host_names_only() -> None:
    """Any DNS name can be pointed at 127.0.0.1 (DNS rebinding)."""
    routing = Routing(origins=["https://app.example"])
    for host in ("localhost:8765", "127.0.0.1:8765", "[::1]:8765", "app.example"):
        assert routing.upgrades("/v1/stream", host=host), host
    response = routing.respond("/v1/stream", host="evil.example")
    assert (response.status_code, error(response)) == (
        421,
        "unknown host name: use an IP address, or add http://evil.example to server.origins",
    )


def test_a_public_server_without_keys_serves_no_other_names_either() -> None:
    """A page of any name could stream to a server on 0.0.0.0 without keys."""
    routing = Routing(host="0.0.0.0")
    assert routing.upgrades("/v1/stream", host="192.168.1.20:8765")
    assert routing.respond("/v1/stream", host="emotide.example").status_code == 421


def test_a_public_server_with_keys_serves_every_host_name() -> None:
    routing = Routing([KEY], host="0.0.0.0")
    assert routing.upgrades("/v1/subscribe", BEARER, host="emotide.example")


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_a_repeated_header_is_400(routing: Routing, name: str) -> None:
    headers = [("Origin", "http://localhost"), (name, "http://localhost")]
    response = routing.respond("/v1/stream", *headers)
    assert (response.status_code, error(response)) == (400, f"the {name} header came twice")


def test_upgrades_from_foreign_origins_are_refused() -> None:
    routing = Routing(origins=["https://app.example"])
    assert routing.upgrades("/v1/stream", ("Origin", "http://localhost"))
    assert routing.upgrades("/v1/stream", ("Origin", "https://app.example"))
    response = routing.respond("/v1/stream", ("Origin", "https://evil.example"))
    assert response.status_code == 403
    assert error(response).startswith("origin_forbidden: add https://evil.example")


def test_an_upgrade_at_capacity_is_503_with_retry_after(routing: Routing) -> None:
    routing.full = ("overloaded: limits.max_sessions", 5)
    response = routing.respond("/v1/stream?resume=rt_1&last_seq=4")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert error(response) == "overloaded: limits.max_sessions"
    assert routing.checked == [{"resume": ["rt_1"], "last_seq": ["4"]}]


# -- keys and tickets --------------------------------------------------------------------------


def test_without_configured_keys_a_request_is_anyones(routing: Routing) -> None:
    assert routing.accept("/v1/subscribe", BEARER).accepted.principal == ANYONE


def test_a_request_without_a_key_is_401_and_counted(
    locked: Routing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        response = locked.respond("/v1/subscribe?token=x")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="emotide"'
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["path"]) == ("request refused", "/v1/subscribe")
    assert (
        'emotide_protocol_errors_total{code="unauthorized"} 1.0' in locked.metrics.text().decode()
    )


def test_a_key_without_the_scope_is_403(locked: Routing) -> None:
    response = locked.respond("/v1/stream", BEARER)
    assert response.status_code == 403
    assert "WWW-Authenticate" not in response.headers
    assert '"stream"' in error(response)


def test_repeated_headers_are_read_and_not_an_error(locked: Routing) -> None:
    """A plain lookup of a repeated header raises, which would be a 500."""
    headers = [("Sec-WebSocket-Protocol", "x"), ("Sec-WebSocket-Protocol", "emotide.v1")]
    assert locked.upgrades("/v1/subscribe", BEARER, *headers)
    assert locked.respond("/v1/subscribe", BEARER, BEARER).status_code == 401


def test_a_ticket_admits_one_connection(locked: Routing) -> None:
    response = page(locked).post("/v1/token", headers=[BEARER])
    assert response.status_code == 200
    body = response.json()
    assert (body["expires_s"], sorted(body["scopes"])) == (60, ["files", "subscribe"])
    offered = ("Sec-WebSocket-Protocol", f"emotide.v1, {TICKET}{body['ticket']}")
    assert locked.upgrades("/v1/subscribe", offered)
    assert locked.respond("/v1/subscribe", offered).status_code == 401


def test_a_ticket_requires_post_and_a_known_key(locked: Routing, routing: Routing) -> None:
    assert page(locked).get("/v1/token", headers=[BEARER]).status_code == 405
    assert page(locked).post("/v1/token").status_code == 401
    wrong = page(locked).post("/v1/token", headers={"Authorization": "Bearer emk_x"})
    assert (wrong.status_code, wrong.json()["error"][:25]) == (401, "unauthorized: unknown key")
    unlocked = page(routing).post("/v1/token", headers=[BEARER])
    assert (unlocked.status_code, unlocked.json()["error"][:28]) == (
        401,
        "this server requires no key;",
    )


def page(routing: Routing) -> TestClient:
    """Return a client of the HTTP application behind the same gate."""
    http = Http(routing.gate, {}, Hub(), bytes, None, 1)
    return TestClient(http.app(), base_url="http://localhost")
