"""Plain HTTP requests, WebSocket upgrades and origins."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from tests.support.clients import connect, stream
from tests.support.running import ROOT, Gate, Server, running_server, started_server
from tests.support.utterances import encode, speech

DOCUMENTS = ("/healthz", "/readyz", "/metrics", "/v1/info", "/v1/groups", "/v1/streams")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    allowed = 'server.origins=["https://app.example"]'
    with running_server("--set", allowed, "--set", "limits.ahead_s=1000") as running:
        yield running


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_document_has_the_common_headers(server: Server, path: str) -> None:
    status, headers, body = server.get(path)
    assert status == 200
    assert int(headers["content-length"]) == len(body) > 0
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "server" not in headers, "the server software is not disclosed"
    assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time.time()) < 5


@pytest.mark.parametrize("path", [*DOCUMENTS, "/nothing", "/v1/stream", "/v1/streams/none"])
def test_head_equals_get_without_the_body(server: Server, path: str) -> None:
    status, headers, body = server.get(path)
    head_status, head_headers, head_body = raw_head(server, path)
    assert head_status == status
    assert head_headers["content-type"] == headers["content-type"]
    # `raw_head` asks for the end of the connection.
    assert head_headers.keys() - {"connection"} == headers.keys() - {"connection"}
    assert head_body == b"", "the response to HEAD has no body"
    assert body


def raw_head(server: Server, path: str) -> tuple[int, dict[str, str], bytes]:
    """Return all bytes of a response to HEAD; an HTTP client would discard an illegal body."""
    request = f"HEAD {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((server.host, server.port), 60) as sock:
        sock.sendall(request.encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {k.lower(): v for k, v in headers.items()}, body


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/streams/none",
        "/../server.py",
        "/%2e%2e/server.py",
        "/v1/x",
        "/v1/info/",
    ],
)
def test_unknown_paths_are_not_found(server: Server, path: str) -> None:
    assert server.get(path)[0] == 404


def raw(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Send any bytes; return head and body of the response, up to the end of the connection."""
    with socket.create_connection((server.host, server.port), 60) as sock:
        sock.sendall(request)
        data = b""
        while piece := sock.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"GARBAGE\r\n\r\n", "illegal request line"),
        (b"GET / HTTP/1.1\r\n\r\n", "Missing mandatory Host: header"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", "illegal header line"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "bad Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000, "Receive buffer too long"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "illegal request line"),
    ],
    ids=["words", "no host", "bad header", "bad length", "long header", "tls"],
)
def test_malformed_requests_are_refused_as_json_and_not_logged(
    server: Server, request_bytes: bytes, reason: str
) -> None:
    before = len(server.lines)
    head, body = raw(server, request_bytes)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert orjson.loads(body) == {"error": f"invalid HTTP request: {reason}"}
    headers = head.lower()
    assert b"content-type: application/json" in headers
    assert b"content-security-policy: default-src 'self'" in headers
    assert b"\r\ndate: " in headers
    assert len(server.lines) == before, "any client can send them without limit"


def test_a_malformed_body_during_a_response_ends_the_connection_quietly(server: Server) -> None:
    """The second refusal could not be sent, and an error of asyncio was logged for each."""
    before = len(server.lines)
    with socket.create_connection((server.host, server.port), 60) as sock:
        sock.sendall(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n")
        sock.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        received = sock.recv(4096)
        sock.sendall(b"not a chunk\r\n" * 10)
        while piece := sock.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert len(server.lines) == before


def test_a_malformed_handshake_is_refused_as_json(server: Server) -> None:
    request = (
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    head, body = raw(server, request)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "Sec-WebSocket-Key" in orjson.loads(body)["error"]
    assert b"x-content-type-options: nosniff" in head.lower()


def test_the_methods_of_a_path_are_named(server: Server) -> None:
    for path, method, allowed in (
        ("/v1/token", "GET", "POST"),
        ("/v1/info", "POST", "GET, HEAD"),
        ("/app.js", "POST", "GET, HEAD"),
        ("/nothing", "POST", "GET, HEAD"),
        ("/v1/stream", "POST", "GET, HEAD"),
    ):
        status, headers, body = server.get(path, method)
        assert (status, headers.get("allow")) == (405, allowed), path
        assert orjson.loads(body) == {"error": "method not allowed"}


def test_a_connection_serves_several_requests(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    for path, status in (("/healthz", 200), ("/nothing", 404), ("/v1/info", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert not response.will_close
    connection.close()


@pytest.mark.parametrize("target", ["//[", "http://[/", "//[/v1/stream", "*"])
def test_malformed_request_targets_are_refused(server: Server, target: str) -> None:
    """`urlsplit` raises for an incomplete IPv6 address, which caused a 500 and a traceback."""
    with socket.create_connection((server.host, server.port), 60) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = sock.recv(4096)
    assert int(response.split()[1]) in (400, 404, 421), response


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(server: Server, method: str) -> None:
    status, headers, _ = server.get("/v1/info", method)
    assert (status, headers.get("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/subscribe"])
def test_a_websocket_path_requires_an_upgrade(server: Server, path: str) -> None:
    status, _, body = server.get(path)
    assert status == 426
    assert "WebSocket" in orjson.loads(body)["error"]
    assert server.get(path)[1]["upgrade"] == "websocket"


async def test_an_upgrade_of_an_unknown_path_is_not_found(server: Server) -> None:
    assert await upgrade(server, "/v1/other") == 404


async def upgrade(server: Server, path: str = "/v1/stream", origin: str | None = None) -> int:
    """Return the status of a handshake; 101 if it succeeds."""
    try:
        async with connect(server, path, origin=origin):
            return 101
    except InvalidStatus as refused:
        return int(refused.response.status_code)


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/subscribe"])
async def test_only_allowed_origins_are_upgraded(server: Server, path: str) -> None:
    assert await upgrade(server, path) == 101, "programs send no origin"
    assert await upgrade(server, path, f"http://127.0.0.1:{server.port}") == 101, (
        "the server's own page"
    )
    assert await upgrade(server, path, "https://app.example") == 101, "allowed by the operator"
    for foreign in (
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        f"http://127.0.0.1:{server.port + 1}",
        "null",
    ):
        assert await upgrade(server, path, foreign) == 403, foreign


async def test_a_malformed_origin_is_refused(server: Server) -> None:
    """`urlsplit` raises for it too, which caused a 500 and a traceback."""
    assert await upgrade(server, origin="http://[") == 403


def test_the_page_is_served_with_an_etag(server: Server) -> None:
    status, headers, body = server.get("/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"<html" in body.lower()
    again = server.get("/", headers={"If-None-Match": headers["etag"]})
    assert (again[0], again[2]) == (304, b"")


def test_the_contract_is_served(server: Server) -> None:
    for name, media_type in (
        ("asyncapi.yaml", "application/yaml"),
        ("openapi.json", "application/json"),
        ("result.schema.json", "application/schema+json"),
    ):
        _, headers, body = server.get(f"/{name}")
        assert body == (ROOT / "docs" / name).read_bytes()
        assert headers["content-type"] == media_type
        again = server.get(f"/{name}", headers={"If-None-Match": headers["etag"]})
        assert (again[0], again[2]) == (304, b"")


def test_info_names_model_limits_and_privacy(server: Server) -> None:
    info = server.json("/v1/info")
    assert info["name"] == "emotide"
    assert info["protocol"] == "emotide.v1"
    assert info["model"]["id"] == "fast"
    assert info["model"]["why"] == "selected by a test"
    assert info["limits"]["max_frame_ms"] == 10_000
    assert info["privacy"]["audio_kept"] is False
    assert info["privacy"]["analyse_roles"] == ["customer", "speaker"]
    assert "verdict" in info["notice"]


async def test_the_subprotocol_is_selected_among_others(server: Server) -> None:
    async with connect(server, subprotocols=["x", "emotide.v1"]) as client:
        assert client.socket.subprotocol == "emotide.v1"
    async with connect(server, subprotocols=None) as client:
        assert client.socket.subprotocol is None


async def test_metrics_can_be_parsed_and_contain_no_stream_id(server: Server) -> None:
    async with stream(server, stream_id="call-very-private", tag="tag-private") as client:
        await client.audio(encode(speech()))
        await client.until("emotion.segment", 2)
        during = (await asyncio.to_thread(server.get, "/metrics"))[2].decode()
        await client.close_session()
        at_close = server.get("/metrics")[2].decode()
    text = server.get("/metrics")[2].decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("emotide_") for name in families)
    assert "private" not in during + at_close
    assert "ses_" not in during + at_close
    active = families["emotide_sessions_active"].samples
    assert sum(sample.value for sample in active) == 0
    assert server.metric("emotide_sessions_total", reason="completed") >= 1
    assert server.metric("emotide_audio_seconds_total") >= 7
    assert server.metric("emotide_windows_total", result="scored") >= 5
    assert server.metric("emotide_build_info", model="fast") == 1


async def test_ready_only_after_the_model_is_loaded(tmp_path: Path) -> None:
    """Before that the port is open, /healthz is 200, and streams get a 503 with Retry-After."""
    gate = Gate(tmp_path / "loading")
    gate.shut()
    env = {"EMOTEST_LOADING": str(gate.path)}
    with started_server(model="tests.support.plugins:loading", env=env) as server:
        server.wait_for_port()
        assert server.get("/healthz")[0] == 200
        status, _, body = server.get("/readyz")
        assert (status, orjson.loads(body)["ready"]) == (503, False)
        assert server.json("/v1/info")["model"] is None
        for path in ("/v1/stream", "/v1/subscribe"):
            assert await refused(server, path) == (503, True)
        gate.open()
        server.line("ready")
        status, _, body = server.get("/readyz")
        assert (status, orjson.loads(body)["ready"]) == (200, True)
        assert await upgrade(server) == 101


async def refused(server: Server, path: str) -> tuple[int, bool]:
    """Return the status of a refused handshake, and whether it has Retry-After."""
    try:
        async with connect(server, path):
            return 101, False
    except InvalidStatus as refusal:
        return refusal.response.status_code, "Retry-After" in refusal.response.headers


async def test_the_frames_of_the_newest_utterance_are_served(server: Server) -> None:
    """Most producers request no frames, so the page had nothing to draw in a stream's detail."""

    async with stream(server) as client:
        created = await client.until("session.created")
        path = f"/v1/streams/{created['stream_id']}/frames"
        assert (await asyncio.to_thread(server.json, path)) == {"channels": []}
        await client.audio(encode(speech()))
        segment = await client.until("emotion.segment", 2)
        [shown] = (await asyncio.to_thread(server.json, path))["channels"]
        assert not any("frames" in event for event in client.of("emotion.score"))
    assert (shown["channel"], shown["role"], shown["utterance"]) == (0, "speaker", 1)
    starts = np.array(shown["start_ms"])
    assert segment["audio_start_ms"] - 20 < starts[0] < starts[-1] < segment["audio_end_ms"]
    assert set(np.diff(starts)) == {shown["hop_ms"]}
    posteriors = np.array(shown["posteriors"])
    assert posteriors.shape == (len(starts), len(shown["labels"]))
    assert np.allclose(posteriors.sum(axis=1), 1, atol=1e-3)
    for path in ("none/frames", "none/scores", "none/frames/x"):
        assert server.get(f"/v1/streams/{path}")[0] == 404
