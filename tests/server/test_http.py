"""Plain HTTP requests, WebSocket upgrades and origins."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from tests.support.clients import connect, run, stream
from tests.support.running import ROOT, Gate, Server, running_server, started_server
from tests.support.utterances import encode, speech

DOCUMENTS = ("/healthz", "/readyz", "/metrics", "/v1/info", "/v1/streams")


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


@pytest.mark.parametrize("path", [*DOCUMENTS, "/nothing", "/v1/stream", "/v1/streams/none"])
def test_head_equals_get_without_the_body(server: Server, path: str) -> None:
    status, headers, body = server.get(path)
    head_status, head_headers, head_body = raw_head(server, path)
    assert head_status == status
    assert head_headers["content-type"] == headers["content-type"]
    assert head_headers.keys() == headers.keys()
    assert head_body == b"", "the response to HEAD has no body"
    assert body


def raw_head(server: Server, path: str) -> tuple[int, dict[str, str], bytes]:
    """Return all bytes of a response to HEAD; an HTTP client would discard an illegal body."""
    with socket.create_connection((server.host, server.port), 5) as sock:
        sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
        data = b""
        while piece := sock.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {k.lower(): v for k, v in headers.items()}, body


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/streams/none", "/../server.py", "/%2e%2e/server.py", "/v1/x"]
)
def test_unknown_paths_are_not_found(server: Server, path: str) -> None:
    assert server.get(path)[0] == 404


@pytest.mark.parametrize("target", ["//[", "http://[/", "//[/v1/stream", "*"])
def test_malformed_request_targets_are_refused(server: Server, target: str) -> None:
    """`urlsplit` raises for an incomplete IPv6 address, which caused a 500 and a traceback."""
    with socket.create_connection((server.host, server.port), 5) as sock:
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


def test_an_upgrade_of_an_unknown_path_is_not_found(server: Server) -> None:
    assert upgrade(server, "/v1/other") == 404


def upgrade(server: Server, path: str = "/v1/stream", origin: str | None = None) -> int:
    """Return the status of a handshake; 101 if it succeeds."""

    async def attempt() -> int:
        try:
            async with connect(server, path, origin=origin):
                return 101
        except InvalidStatus as refused:
            return int(refused.response.status_code)

    return run(attempt())


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/subscribe"])
def test_only_allowed_origins_are_upgraded(server: Server, path: str) -> None:
    assert upgrade(server, path) == 101, "programs send no origin"
    assert upgrade(server, path, f"http://127.0.0.1:{server.port}") == 101, "the server's own page"
    assert upgrade(server, path, "https://app.example") == 101, "allowed by the operator"
    for foreign in (
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        f"http://127.0.0.1:{server.port + 1}",
        "null",
    ):
        assert upgrade(server, path, foreign) == 403, foreign


def test_a_malformed_origin_is_refused(server: Server) -> None:
    """`urlsplit` raises for it too, which caused a 500 and a traceback."""
    assert upgrade(server, origin="http://[") == 403


def test_the_page_is_served_with_an_etag(server: Server) -> None:
    status, headers, body = server.get("/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"<html" in body.lower()
    again = server.get("/", headers={"If-None-Match": headers["etag"]})
    assert (again[0], again[2]) == (304, b"")


def test_the_contract_is_served(server: Server) -> None:
    for name in ("asyncapi.yaml", "result.schema.json"):
        assert server.get(f"/{name}")[2] == (ROOT / "docs" / name).read_bytes()


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
    async def session() -> str:
        async with stream(server, stream_id="call-very-private", tag="tag-private") as client:
            await client.audio(encode(speech()))
            await client.until("emotion.segment", 2)
            text = (await asyncio.to_thread(server.get, "/metrics"))[2].decode()
            await client.close_session()
            return text + server.get("/metrics")[2].decode()

    both = await session()
    text = server.get("/metrics")[2].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("emotide_") for name in families)
    assert "private" not in both
    assert "ses_" not in both
    active = families["emotide_sessions_active"].samples
    assert sum(sample.value for sample in active) == 0
    assert server.metric("emotide_sessions_total", reason="completed") >= 1
    assert server.metric("emotide_audio_seconds_total") >= 7
    assert server.metric("emotide_windows_total", result="scored") >= 5
    assert server.metric("emotide_build_info", model="fast") == 1


def test_ready_only_after_the_model_is_loaded(tmp_path: Path) -> None:
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
            assert refused(server, path) == (503, True)
        gate.open()
        server.line("ready")
        status, _, body = server.get("/readyz")
        assert (status, orjson.loads(body)["ready"]) == (200, True)
        assert upgrade(server) == 101


def refused(server: Server, path: str) -> tuple[int, bool]:
    """Return the status of a refused handshake, and whether it has Retry-After."""

    async def attempt() -> tuple[int, bool]:
        try:
            async with connect(server, path):
                return 101, False
        except InvalidStatus as refusal:
            return refusal.response.status_code, "Retry-After" in refusal.response.headers

    return run(attempt())


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
