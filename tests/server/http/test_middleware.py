"""Layers around the HTTP application: headers, errors, bodies that are not read, stalls, CORS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.config import Scope as KeyScope
from stream.config import ServerConfig
from stream.delivery.hub import Hub
from stream.server.access.auth import Authenticator, Key, make_key
from stream.server.access.gate import Gate
from stream.server.http import middleware
from stream.server.http.application import Http
from stream.server.http.middleware import CommonLayer
from stream.telemetry.metrics import Metrics

SECRET, DIGEST = make_key()
WEBSOCKETS: dict[str, KeyScope] = {"/v1/stream": "stream"}
ORIGIN = "https://app.example"


def gate(*keys: Key, **config: Any) -> Gate:
    server = ServerConfig.model_validate(config)
    return Gate(server, Authenticator(keys), Metrics("test"), WEBSOCKETS)


def client(*keys: Key, **config: Any) -> TestClient:
    """Return a client of the real application, without a socket."""
    http = Http(gate(*keys, **config), {}, Hub(), lambda: b"metrics", None, 1)
    return TestClient(http.app(), base_url="http://localhost", raise_server_exceptions=False)


async def exchange(
    app: ASGIApp,
    body: list[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    sent: list[Message] | None = None,
    send: Callable[[Message], Any] | None = None,
    **scope: Any,
) -> list[Message]:
    """Send one request through the outermost layer; return the messages of its response.

    `body` are its pieces; None is a body that never comes. `sent` also collects what was read.
    """
    messages: list[Message] = [] if sent is None else sent
    pieces = list(body or ())
    ended = asyncio.Event()

    async def receive() -> Message:
        if pieces:
            piece = pieces.pop(0)
            messages.append({"type": "read", "size": len(piece)})
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await ended.wait()
        return {"type": "http.disconnect"}

    async def collect(message: Message) -> None:
        messages.append(message)
        if send is not None:
            await send(message)

    full = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in {"Host": "localhost", **(headers or {})}.items()
        ],
        "state": {"abort": ended.set},
        **scope,
    }
    await CommonLayer(app, gate())(full, receive, collect)
    return messages


def response(messages: list[Message]) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and decoded JSON."""
    [start] = [m for m in messages if m["type"] == "http.response.start"]
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert headers["content-length"] == str(len(body))
    return start["status"], headers, orjson.loads(body)


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("Not good", 400, {"X-Kept": "yes"})(scope, receive, send)


# -- headers and errors ------------------------------------------------------------------------


async def test_a_plain_error_becomes_json_with_the_common_headers() -> None:
    status, headers, body = response(await exchange(plain))
    assert (status, body) == (400, {"error": "not good"})
    assert headers["content-type"] == "application/json"
    assert headers["x-kept"] == "yes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["date"].endswith(" GMT")


@pytest.mark.parametrize("raised", ["before", "between", "after"])
async def test_an_exception_is_logged_and_is_500_unless_the_response_has_begun(
    raised: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if raised != "before":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if raised == "after":
            await send({"type": "http.response.body", "body": b"x"})
        raise RuntimeError("a secret path")

    with caplog.at_level(logging.INFO):
        messages = await exchange(broken, path="/v1/results/secret/x")
    [entry] = caplog.records
    assert (entry.getMessage(), entry.levelname) == ("request failed", "ERROR")
    assert vars(entry)["path"] == "/v1/results/", "the id of a result is not logged"
    if raised == "before":
        status, headers, body = response(messages)
        assert (status, body) == (500, {"error": "internal server error"})
        assert "content-security-policy" in headers
    else:
        assert [m["type"] for m in messages][:1] == ["http.response.start"]
        assert messages[0]["status"] == 200


def test_an_exception_of_an_endpoint_is_500_as_json() -> None:
    def broken() -> bytes:
        raise RuntimeError("broken")

    http = Http(gate(), {}, Hub(), broken, None, 1)
    app = TestClient(http.app(), base_url="http://localhost", raise_server_exceptions=False)
    answer = app.get("/metrics")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal server error"})
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_long_path_is_refused() -> None:
    status, _, body = response(await exchange(plain, path="/" + "x" * 9_000))
    assert status == 414
    assert "more than 8192 bytes" in body["error"]
    status, _, _ = response(await exchange(plain, query_string=b"x" * 9_000))
    assert status == 414


# -- bodies that are not read ------------------------------------------------------------------


async def test_the_rest_of_a_refused_body_is_read_before_the_connection_ends() -> None:
    """Closed at once, a client that still sends gets a reset and may never see the refusal."""
    messages = await exchange(plain, [b"abc", b"de"], {"Content-Length": "5"})
    kinds = [m["type"] for m in messages]
    assert kinds == [
        "http.response.start",
        "http.response.body",
        "read",
        "read",
        "http.response.body",
    ]
    assert response(messages)[1]["connection"] == "close"
    assert messages[1]["more_body"] is True


async def test_a_client_that_awaits_100_continue_is_not_asked_for_its_body() -> None:
    headers = {"Content-Length": "5", "Expect": "100-continue"}
    messages = await exchange(plain, [b"abc", b"de"], headers)
    assert [m["type"] for m in messages] == ["http.response.start", "http.response.body"]
    assert response(messages)[1]["connection"] == "close"


async def test_a_body_that_does_not_come_is_not_awaited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "UNREAD_S", 0.05)
    async with asyncio.timeout(60):
        messages = await exchange(plain, None, {"Transfer-Encoding": "chunked"})
    assert response(messages)[0] == 400


@pytest.mark.parametrize("size", ["0", "5"])
async def test_a_body_that_was_read_or_is_empty_keeps_the_connection(size: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if size != "0":
            await Request(scope, receive).body()
        await Response("{}", media_type="application/json")(scope, receive, send)

    messages = await exchange(app, [b"abcde"], {"Content-Length": size})
    assert "connection" not in response(messages)[1]


# -- stalls, cancellation ----------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(middleware, "STALL_S", 0.05)

    async def blocked(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(60):
            await exchange(plain, send=blocked)
    assert [entry.levelname for entry in caplog.records] == ["INFO"]


async def test_a_timeout_of_an_endpoint_is_not_a_stalled_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError

    assert response(await exchange(broken))[0] == 500
    assert [entry.getMessage() for entry in caplog.records] == ["request failed"]


async def test_a_cancelled_request_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn logs an error with a traceback for each, at the exit of the process."""

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(exchange(endless))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == []
    assert not caplog.records


# -- CORS and origins --------------------------------------------------------------------------

PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_a_preflight_of_an_allowed_origin_needs_no_key() -> None:
    app = client(Key("a", DIGEST, frozenset({"files"})), origins=[ORIGIN])
    headers = {**PREFLIGHT, "Access-Control-Request-Headers": "authorization, content-type"}
    answer = app.options("/v1/token", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"Authorization", "Content-Type"} <= set(allowed)
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    actual = app.post("/v1/token", headers={"Origin": ORIGIN})
    assert actual.status_code == 401, "the request itself needs one"
    assert actual.headers["access-control-allow-origin"] == ORIGIN, "a script can read the error"


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"Origin": "https://evil.example"}, "add https://evil.example to server.origins"),
        ({"Origin": "null"}, "add null to server.origins"),
        ({"Access-Control-Request-Method": "PUT"}, "may use GET, POST, DELETE only"),
        ({"Access-Control-Request-Headers": "x-secret"}, "only the headers"),
    ],
)
def test_another_preflight_is_refused_with_a_remedy(change: dict[str, str], remedy: str) -> None:
    answer = client(origins=[ORIGIN]).options("/v1/token", headers={**PREFLIGHT, **change})
    assert answer.status_code == 403
    assert remedy in answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if "Origin" in change:
        assert "access-control-allow-origin" not in answer.headers


def test_without_allowed_origins_no_preflight_is_answered() -> None:
    assert client().options("/v1/token", headers=PREFLIGHT).status_code == 403


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/token", "/", "/v1/info", "/nothing"])
def test_a_page_of_another_origin_cannot_change_anything(method: str, path: str) -> None:
    """Without keys, any page could post to a server on 127.0.0.1 (cross-site request forgery)."""
    app = client(origins=[ORIGIN])

    def status(origin: str) -> int:
        return int(app.request(method, path, headers={"Origin": origin}).status_code)

    for foreign in ("https://evil.example", "http://localhost:1234", "null", "http://[", "x"):
        assert status(foreign) == 403, foreign
    for allowed in (ORIGIN, "http://localhost"):
        assert status(allowed) in (401, 404, 405), allowed
    assert app.request(method, path).status_code in (401, 404, 405), "programs send no origin"


def test_two_origins_are_refused() -> None:
    headers = [("Origin", "http://localhost"), ("Origin", "https://evil.example")]
    answer = client().post("/v1/token", headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "the Origin header came twice"})


async def test_a_request_without_a_host_has_no_own_origin() -> None:
    """HTTP/1.0 needs no Host; the origin "null" has no host either."""
    key = Key("dashboard", DIGEST, frozenset({"subscribe"}))
    http = Http(gate(key, host="0.0.0.0"), {}, Hub(), bytes, None, 1)
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "http_version": "1.0",
        "method": "POST",
        "path": "/v1/token",
        "query_string": b"",
        "headers": [(b"origin", b"null")],
    }
    await http.app()(scope, receive, send)
    assert messages[0]["status"] == 403


def test_a_get_of_another_origin_is_answered_but_not_readable() -> None:
    """Only headers keep the page's script from reading it; a GET changes nothing."""
    answer = client(origins=[ORIGIN]).get("/healthz", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    answer = client(origins=[ORIGIN]).get("/healthz", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "origin" in answer.headers["vary"].lower()
