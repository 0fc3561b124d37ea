"""Recordings over HTTP at a server's limits: size, time, clients, disk, loading, drain."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, cast

import pytest
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus

from stream.config import Config, ServerConfig
from stream.delivery.hub import Hub
from stream.protocol.errors import ProtocolError
from stream.quotas import Quotas
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import disk_error
from stream.server.access.auth import Authenticator
from stream.server.access.gate import Gate as HttpGate
from stream.server.http.application import Http
from stream.server.http.file_requests import FileRequests
from stream.server.process.lifecycle import Lifecycle
from stream.telemetry.metrics import Metrics
from stream.tenants import Principal
from tests.support.posting import (
    Answer,
    Part,
    answer,
    form,
    opened,
    post,
    send,
    wait_for,
)
from tests.support.running import Gate, Server, running_server, started_server
from tests.support.uploading import uploader, wait_until_empty


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for files of at most 100 kB, with short timeouts and a place for one client."""
    folder = tmp_path_factory.mktemp("small")
    limits = ("files.max_mb=0.1", "limits.idle_timeout_s=2.5", "files.max_clients=1")
    options = [word for limit in (*limits, f"files.folder={folder}") for word in ("--set", limit)]
    with running_server(*options) as server:
        yield server
        wait_until_empty(folder)
        assert server.metric("emotide_files_active") == 0


@pytest.mark.parametrize("content_type", ["audio/wav", "multipart/form-data; boundary=x"])
def test_a_large_body_is_refused_before_it_is_read(small: Server, content_type: str) -> None:
    """A client that waits for 100 Continue gets the refusal instead, and sends nothing."""
    head = (
        f"POST /v1/files HTTP/1.1\nContent-Type: {content_type}\r\n"
        "Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n"
    )
    with opened(small, head) as sock:
        refused = answer(sock)
        assert sock.recv(1) == b"", "the connection is closed"
    assert (refused.status, refused.body["code"]) == (413, "file_too_large")
    assert refused.body["values"]["most_mb"] == 0.1
    assert refused.headers["connection"] == "close"


def test_a_client_that_awaits_100_continue_gets_it(small: Server) -> None:
    body, headers = form(("file", "a.txt", b"not audio"))
    head = (
        f"POST /v1/files?wait=30 HTTP/1.1\nContent-Type: {headers['Content-Type']}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with opened(small, head) as sock:
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert answer(sock).body["code"] == "not_audio"


@pytest.mark.parametrize("as_form", [False, True])
def test_a_body_that_grows_too_large_is_refused_while_it_arrives(
    small: Server, as_form: bool
) -> None:
    """The client sends all of it before it reads, and still gets the refusal."""
    body, headers = form(("file", "a.wav", b"x" * 2_000_000))
    if not as_form:
        body, headers = b"x" * 2_000_000, {"Content-Type": "audio/wav"}
    head = (
        f"POST /v1/files HTTP/1.1\nContent-Type: {headers['Content-Type']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with opened(small, head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) as sock:
        refused = answer(sock)
    assert (refused.status, refused.body["code"]) == (413, "file_too_large")


def test_a_slow_body_is_ended(small: Server) -> None:
    head = "POST /v1/files HTTP/1.1\nContent-Length: 1000\r\n\r\n"
    before = small.metric("emotide_files_total", outcome="idle_timeout")
    with opened(small, head, b"x" * 100) as sock:
        refused = answer(sock)
    assert (refused.status, refused.body["code"]) == (408, "idle_timeout")
    wait_for(lambda: small.metric("emotide_files_total", outcome="idle_timeout") == before + 1)


def test_uploads_jobs_and_connections_count_together(small: Server, audio: bytes) -> None:
    refusal = (503, "5", {"error": "overloaded: files.max_clients"})
    head = "POST /v1/files HTTP/1.1\nContent-Length: 1000\r\n\r\n"
    with opened(small, head, b"x" * 100):
        wait_for(lambda: small.metric("emotide_files_active") == 1)
        second = send(small, "POST", "/v1/files", b"x")
        assert (second.status, second.headers["retry-after"], second.body) == refusal

        async def connect() -> None:
            async with uploader(small):
                pass

        with pytest.raises(InvalidStatus, match="503"):
            asyncio.run(connect())
    wait_for(lambda: send(small, "POST", "/v1/files", b"").status == 422)

    async def post_beside_a_connection() -> Answer:
        async with uploader(small):
            return await asyncio.to_thread(send, small, "POST", "/v1/files", b"x")

    third = asyncio.run(post_beside_a_connection())
    assert (third.status, third.headers["retry-after"], third.body) == refusal
    wait_for(lambda: send(small, "POST", "/v1/files", b"x").status == 202)


def test_while_the_model_loads_recordings_are_refused(tmp_path: Path, file: Part) -> None:
    gate = Gate(tmp_path / "loading")
    gate.shut()
    env = {"EMOTEST_LOADING": str(gate.path)}
    with started_server(model="tests.support.plugins:loading", env=env) as server:
        server.wait_for_port()
        refused = post(server, "", file)
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert refused.body == {"error": "the model is loading"}
        assert send(server, "GET", "/v1/files/file_0").status == 404
        gate.open()
        server.line("ready")


class Refusing:
    """Background jobs that refuse every upload with one error."""

    closed = None

    def __init__(self, error: ProtocolError | None = None) -> None:
        self.error = error

    def receive(self, principal: Principal) -> NoReturn:
        assert self.error is not None
        raise self.error


def client(jobs: Refusing, lifecycle: Lifecycle) -> TestClient:
    """Return a client of the application without a socket."""
    metrics = Metrics("test")
    gate = HttpGate(ServerConfig(), Authenticator([]), metrics, ["/v1/files"])
    found = cast(BackgroundJobs, jobs)
    files = FileRequests(Config(), lifecycle, metrics, lambda: found, lambda _: None, Quotas())
    http = Http(gate, {}, Hub(), bytes, None, 1, files)
    return TestClient(http.app(), base_url="http://localhost")


def test_while_the_server_drains_recordings_are_refused() -> None:
    lifecycle = Lifecycle()
    lifecycle.drain()
    refused = client(Refusing(), lifecycle).post("/v1/files", content=b"x")
    assert (refused.status_code, refused.json()) == (503, {"error": "draining"})
    assert refused.headers["retry-after"] == "5"


def test_a_full_disk_is_507_with_retry_after() -> None:
    lifecycle = Lifecycle()
    lifecycle.serve()
    error = disk_error(OSError(errno.ENOSPC, "no space"))
    refused = client(Refusing(error), lifecycle).post("/v1/files", content=b"x")
    assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
    assert refused.headers["retry-after"] == "60"
