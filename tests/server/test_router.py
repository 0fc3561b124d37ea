"""Routing of requests without sockets: upgrades, refusals, keys, tickets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream.config import ServerConfig
from stream.errors import ConfigError
from stream.protocol.parsing import Query
from stream.recordings.store import ResultStore
from stream.server.auth import TICKET, Authenticator, Key, make_key
from stream.server.connection import RequestConnection
from stream.server.downloads import Downloads
from stream.server.pages import Pages
from stream.server.router import Router, is_local, redacted, scope_of, tls_context
from stream.telemetry.metrics import Metrics

SECRET, DIGEST = make_key()
KEY = Key("dashboard", DIGEST, frozenset({"subscribe", "files"}))
BEARER = ("Authorization", f"Bearer {SECRET}")
UPGRADE = ("Upgrade", "websocket")

pages = Pages({"/v1/info": lambda: (HTTPStatus.OK, {"name": "x"})}, lambda _: None, bytes)


class Routing:
    """A router with its real neighbours; `full` is the response of the capacity check."""

    def __init__(
        self, root: Path, keys: Sequence[Key] = (), files: bool = True, **config: Any
    ) -> None:
        self.authenticator = Authenticator(keys)
        self.metrics = Metrics("test")
        self.full: tuple[str, int] | None = None
        self.checked: list[tuple[str, Query]] = []
        self.router = Router(
            ServerConfig.model_validate(config),
            self.authenticator,
            pages,
            Downloads(ResultStore(root, 60), 1) if files else None,
            self.metrics,
            self._capacity,
        )

    def _capacity(self, path: str, query: Query) -> tuple[str, int] | None:
        self.checked.append((path, query))
        return self.full

    def route(
        self, path: str, *headers: tuple[str, str], method: str = "GET", host: str = "localhost"
    ) -> tuple[RequestConnection, Response | Awaitable[Response] | None]:
        # Only `key_name` of the connection is used, so it needs no transport.
        socket = RequestConnection.__new__(RequestConnection)
        request = Request(path, Headers([("Host", host), *headers]))
        request.method = method
        return socket, self.router.route(socket, request)

    def respond(self, path: str, *headers: tuple[str, str], **options: Any) -> Response:
        response = self.route(path, *headers, **options)[1]
        assert isinstance(response, Response)
        return response

    def upgrades(self, path: str, *headers: tuple[str, str], **options: Any) -> bool:
        return self.route(path, UPGRADE, *headers, **options)[1] is None


@pytest.fixture
def routing(tmp_path: Path) -> Routing:
    return Routing(tmp_path)


@pytest.fixture
def locked(tmp_path: Path) -> Routing:
    """A router that requires a key."""
    return Routing(tmp_path, [KEY])


def error(response: Response) -> str:
    return str(orjson.loads(response.body)["error"])


# -- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/subscribe", "/v1/files", "/v1/stream?x=1"])
def test_websocket_paths_are_upgraded(routing: Routing, path: str) -> None:
    assert routing.upgrades(path)


def test_a_websocket_path_without_an_upgrade_is_426(routing: Routing) -> None:
    response = routing.respond("/v1/stream")
    assert response.status_code == 426
    assert error(response) == "/v1/stream is a WebSocket endpoint"
    assert routing.respond("/v1/stream", method="HEAD").body == b""
    assert routing.checked == [], "the capacity matters only to upgrades"


def test_other_paths_are_answered_by_the_pages(routing: Routing) -> None:
    assert orjson.loads(routing.respond("/v1/info").body) == {"name": "x"}
    assert routing.respond("/v1/other", UPGRADE).status_code == 404


def test_without_downloads_paths_of_recordings_are_not_found(tmp_path: Path) -> None:
    routing = Routing(tmp_path, files=False)
    assert routing.respond("/v1/files", UPGRADE).status_code == 404
    assert routing.respond("/v1/results/x/result.json").status_code == 404


async def test_results_are_answered_by_the_downloads(routing: Routing) -> None:
    response = routing.route("/v1/results/x/result.json")[1]
    assert isinstance(response, Awaitable)
    assert error(await response) == "unknown or expired result"


@pytest.mark.parametrize("path", ["//[", "http://[/"])
def test_a_malformed_path_is_400(routing: Routing, path: str) -> None:
    response = routing.respond(path)
    assert (response.status_code, error(response)) == (400, "malformed request path")


# -- hosts, origins, capacity ------------------------------------------------------------------


def test_a_local_server_serves_known_host_names_only(tmp_path: Path) -> None:
    """Any DNS name can be pointed at 127.0.0.1 (DNS rebinding)."""
    routing = Routing(tmp_path, origins=["https://app.example"])
    for host in ("localhost:8765", "127.0.0.1:8765", "[::1]:8765", "app.example"):
        assert routing.respond("/healthz", host=host).status_code == 200, host
    response = routing.respond("/healthz", host="evil.example")
    assert (response.status_code, error(response)) == (
        421,
        "unknown host name: add its origin to server.origins",
    )


def test_a_public_server_serves_every_host_name(tmp_path: Path) -> None:
    routing = Routing(tmp_path, host="0.0.0.0")
    assert routing.respond("/healthz", host="emotide.example").status_code == 200


def test_upgrades_from_foreign_origins_are_refused(tmp_path: Path) -> None:
    routing = Routing(tmp_path, origins=["https://app.example"])
    assert routing.upgrades("/v1/stream", ("Origin", "http://localhost"))
    assert routing.upgrades("/v1/stream", ("Origin", "https://app.example"))
    response = routing.respond("/v1/stream", UPGRADE, ("Origin", "https://evil.example"))
    assert response.status_code == 403
    assert error(response).startswith("origin_forbidden: add https://evil.example")


def test_an_upgrade_at_capacity_is_503_with_retry_after(routing: Routing) -> None:
    routing.full = ("overloaded: limits.max_sessions", 5)
    response = routing.respond("/v1/stream?resume=rt_1&last_seq=4", UPGRADE)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert error(response) == "overloaded: limits.max_sessions"
    assert routing.checked == [("/v1/stream", {"resume": ["rt_1"], "last_seq": ["4"]})]


# -- keys and tickets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/stream", "stream"),
        ("/v1/subscribe", "subscribe"),
        ("/v1/files", "files"),
        ("/v1/results/id/result.json", "files"),
        ("/v1/streams", "subscribe"),
        ("/v1/streams/call-1/frames", "subscribe"),
        ("/metrics", "metrics"),
        ("/", None),
        ("/healthz", None),
        ("/v1/info", None),
        ("/v1/streamsx", None),
    ],
)
def test_scope_of_a_path(path: str, scope: str | None) -> None:
    assert scope_of(path) == scope


def test_the_connection_gets_the_name_of_the_key(locked: Routing) -> None:
    socket, response = locked.route("/v1/subscribe", UPGRADE, BEARER)
    assert response is None
    assert socket.key_name == "dashboard"


def test_without_configured_keys_the_connection_has_no_key_name(routing: Routing) -> None:
    assert routing.route("/v1/subscribe", UPGRADE, BEARER)[0].key_name == ""


def test_a_request_without_a_key_is_401_and_counted(
    locked: Routing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        response = locked.respond("/v1/results/secret-id/result.json")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="emotide"'
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["path"]) == ("request refused", "/v1/results/")
    assert (
        'emotide_protocol_errors_total{code="unauthorized"} 1.0' in locked.metrics.text().decode()
    )


def test_a_key_without_the_scope_is_403(locked: Routing) -> None:
    response = locked.respond("/v1/stream", UPGRADE, BEARER)
    assert response.status_code == 403
    assert "WWW-Authenticate" not in response.headers
    assert '"stream"' in error(response)


def test_repeated_headers_are_read_and_not_an_error(locked: Routing) -> None:
    """A plain lookup of a repeated header raises, which would be a 500."""
    headers = [("Sec-WebSocket-Protocol", "x"), ("Sec-WebSocket-Protocol", "emotide.v1")]
    assert locked.upgrades("/v1/subscribe", BEARER, *headers)
    assert locked.respond("/v1/subscribe", UPGRADE, BEARER, BEARER).status_code == 401


def test_a_ticket_admits_one_connection(locked: Routing) -> None:
    response = locked.respond("/v1/token", BEARER, method="POST")
    assert response.status_code == 200
    body = orjson.loads(response.body)
    assert (body["expires_s"], sorted(body["scopes"])) == (60, ["files", "subscribe"])
    offered = ("Sec-WebSocket-Protocol", f"emotide.v1, {TICKET}{body['ticket']}")
    assert locked.upgrades("/v1/subscribe", offered)
    assert locked.respond("/v1/subscribe", UPGRADE, offered).status_code == 401


def test_a_ticket_requires_post_and_a_known_key(locked: Routing, routing: Routing) -> None:
    assert locked.respond("/v1/token", BEARER).status_code == 405
    assert locked.respond("/v1/token", method="POST").status_code == 401
    wrong = locked.respond("/v1/token", ("Authorization", "Bearer emk_x"), method="POST")
    assert (wrong.status_code, error(wrong)[:25]) == (401, "unauthorized: unknown key")
    unlocked = routing.respond("/v1/token", BEARER, method="POST")
    assert (unlocked.status_code, error(unlocked)[:28]) == (401, "this server requires no key;")


# -- helpers -----------------------------------------------------------------------------------


def test_ids_of_results_are_redacted() -> None:
    assert redacted("/v1/results/id/result.json") == "/v1/results/"
    assert redacted("/v1/files") == "/v1/files"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_is_local(host: str, local: bool) -> None:
    assert is_local(ServerConfig(host=host)) is local


def test_a_tls_context_needs_a_readable_certificate(tmp_path: Path) -> None:
    assert tls_context(None, None) is None
    with pytest.raises(ConfigError, match=r"server\.tls_key: needs server\.tls_cert"):
        tls_context(None, tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"cannot load .*none\.pem"):
        tls_context(tmp_path / "none.pem", None)
