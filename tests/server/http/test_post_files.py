"""Recordings over HTTP: upload, wait, state, cancellation, ownership, limits, drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import NoReturn, cast

import orjson
import pytest
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus

from stream.config import Config, ServerConfig
from stream.delivery.hub import Hub
from stream.protocol.errors import ProtocolError
from stream.quotas import Quotas
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import disk_error
from stream.server.access.auth import Authenticator, make_key
from stream.server.access.gate import Gate as HttpGate
from stream.server.http.application import Http
from stream.server.http.file_requests import FileRequests
from stream.server.process.lifecycle import Lifecycle
from stream.telemetry.metrics import Metrics
from stream.tenants import Principal
from tests.support.audio_files import record
from tests.support.odd_files import tracks
from tests.support.posting import Answer, Part, form, post, read, send
from tests.support.running import Gate, Server, running_server, started_server
from tests.support.uploading import uploader, wait_until_empty
from tests.support.utterances import RATE, speech

SHORT = speech()[: 4 * RATE]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return record(tmp_path_factory.mktemp("audio") / "a.mp3", SHORT).read_bytes()


@pytest.fixture
def file(audio: bytes) -> Part:
    return ("file", "call.mp3", audio)


@contextlib.contextmanager
def gated(tmp_path: Path, *args: str) -> Iterator[tuple[Server, Gate]]:
    """Start a server whose model waits while the gate is shut; it is shut at first."""
    gate = Gate(tmp_path / "gate")
    with running_server(
        "--set",
        f"files.folder={tmp_path / 'o'}",
        *args,
        model="tests.support.plugins:blocked",
        env={"EMOTEST_BLOCK": str(gate.path)},
    ) as server:
        gate.shut()
        try:
            yield server, gate
        finally:
            gate.open()


def running(server: Server, url: str) -> None:
    """Wait until the analysis of a recording has begun."""
    wait_for(lambda: send(server, "GET", url).body["progress"]["stage"] == "analysis")


def wait_for(condition: object, timeout_s: float = 20.0) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not fulfilled in time"
        time.sleep(0.02)


@contextlib.contextmanager
def opened(server: Server, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """Send a request by hand: its first line and headers without Host, and a part of its body."""
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(head.replace("\n", f"\r\nHost: {server.host}\r\n", 1).encode() + body)
        yield sock


def answer(sock: socket.socket) -> Answer:
    """Read the response to a request by hand."""
    response = HTTPResponse(sock, method="POST")
    response.begin()
    return read(response)


# -- upload and result -------------------------------------------------------------------------


def test_a_form_is_analysed_and_answered_with_the_result(server: Server, file: Part) -> None:
    """The command of the README: curl -F file=@call.flac 'http://.../v1/files?wait=60'."""
    before = server.metric("emotide_files_total", outcome="done")
    done = post(server, "?wait=60", file)
    assert done.status == 200
    assert done.body["status"] == "done"
    assert done.body["name"] == done.body["result"]["file"]["name"] == "call.mp3"
    assert done.body["result"]["file"]["bytes"] == len(file[2])
    assert done.body["result"]["channels"][0]["scores"]
    assert done.headers["location"] == done.body["url"]
    assert done.headers["cache-control"] == "no-store"
    [json] = [item for item in done.body["files"] if item["name"] == "result.json"]
    status, _, content = server.get(json["url"])
    assert (status, len(content)) == (200, json["bytes"])
    assert orjson.loads(content)["channels"] == done.body["result"]["channels"]
    assert send(server, "GET", done.body["url"]).body == done.body
    assert server.metric("emotide_files_total", outcome="done") == before + 1
    assert server.metric("emotide_files_active") == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_the_bytes_alone_are_analysed_like_a_form(
    server: Server, audio: bytes, file: Part, chunked: bool
) -> None:
    expected = post(server, "?wait=60", file).body["result"]["channels"]
    query = "?wait=60&name=a%20b.mp3&granularity=frame&language=de"
    if chunked:
        head = f"POST /v1/files{query} HTTP/1.1\nTransfer-Encoding: chunked\r\n\r\n"
        pieces = [audio[at : at + 5000] for at in range(0, len(audio), 5000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        with opened(server, head, body + b"0\r\n\r\n") as sock:
            sock.settimeout(60)
            done = answer(sock)
    else:
        headers = {"Content-Type": "audio/mpeg"}
        done = send(server, "POST", f"/v1/files{query}", audio, headers)
    assert done.status == 200
    assert done.body["result"]["channels"] == expected
    assert done.body["name"] == "a b.mp3"
    assert done.body["result"]["options"]["granularity"] == "frame"
    assert done.body["result"]["options"]["language"] == "de"


def test_without_a_name_a_recording_has_a_default_name(server: Server, audio: bytes) -> None:
    assert send(server, "POST", "/v1/files?wait=60", audio).body["name"] == "recording"
    assert post(server, "?wait=60", ("file", None, audio)).body["name"] == "recording"
    named = post(server, "?wait=60&name=other.mp3", ("file", "call.mp3", audio))
    assert named.body["name"] == "other.mp3", "the query overrides the form"


@pytest.mark.parametrize("first", ["options", "file"])
def test_the_options_of_a_form_override_those_of_the_query(
    server: Server, file: Part, first: str
) -> None:
    options: Part = ("options", None, b'{"granularity": "frame", "disclosed": true}')
    parts = [options, file] if first == "options" else [file, options]
    done = post(server, "?wait=60&granularity=utterance&language=de", *parts)
    assert done.status == 200
    found = done.body["result"]["options"]
    assert (found["granularity"], found["language"]) == ("frame", "de")


def test_without_wait_the_answer_is_202_and_the_result_is_fetched_later(
    tmp_path: Path, file: Part
) -> None:
    with gated(tmp_path) as (server, gate):
        begun = time.monotonic()
        sent = post(server, "", file)
        assert (sent.status, sent.body["status"]) == (202, "queued")
        assert sent.headers["location"] == sent.body["url"]
        assert "result" not in sent.body
        running(server, sent.body["url"])

        waited = post(server, "?wait=0.3", file)
        assert (waited.status, waited.body["status"]) == (202, "running")
        polled = send(server, "GET", sent.body["url"] + "?wait=0.3")
        assert (polled.status, polled.body["status"]) == (200, "running")
        assert polled.body["log"][0]["code"] == "decoded"
        assert 0.6 <= time.monotonic() - begun < 20

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(send, server, "GET", sent.body["url"] + "?wait=60")
            gate.open()
            assert waiting.result(60).body["status"] == "done"
        assert send(server, "GET", waited.body["url"] + "?wait=60").body["status"] == "done"


def test_a_recording_that_fails_is_422_and_leaves_its_error(server: Server, folder: Path) -> None:
    before = set(folder.iterdir()) if folder.exists() else set()
    failed = post(server, "?wait=30", ("file", "notes.txt", b"no audio at all " * 100))
    assert failed.status == 422
    assert (failed.body["code"], failed.body["retryable"]) == ("not_audio", False)
    assert failed.body["error"].startswith("the contents of the file are not audio")
    later = send(server, "GET", failed.body["url"])
    assert later.status == 200, "the request for the state succeeds"
    assert later.body == failed.body
    assert later.body["status"] == "failed"
    assert set(folder.iterdir()) == before
    assert server.metric("emotide_files_total", outcome="not_audio") >= 1


# -- cancellation and ownership ----------------------------------------------------------------


def test_delete_cancels_a_recording_and_then_deletes_its_record(tmp_path: Path, file: Part) -> None:
    with gated(tmp_path) as (server, gate):
        sent = post(server, "", file)
        url = sent.body["url"]
        running(server, url)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post, server, "?wait=30", file)
            wait_for(lambda: server.metric("emotide_files_active") == 2)
            cancelled = send(server, "DELETE", url)
            assert (cancelled.status, cancelled.body) == (204, None)
            state = send(server, "GET", url).body
            assert (state["status"], state["code"]) == ("cancelled", "cancelled")
            assert send(server, "DELETE", url).status == 204
            assert send(server, "DELETE", url).status == 404
            assert send(server, "GET", url).status == 404
            gate.open()
            assert waiting.result(60).status == 200, "the other recording is not affected"
        assert len([*(tmp_path / "o").iterdir()]) == 1
        assert server.metric("emotide_files_total", outcome="cancelled") == 1


def test_delete_removes_a_result(server: Server, folder: Path, file: Part) -> None:
    done = post(server, "?wait=60", file)
    urls = [item["url"] for item in done.body["files"]]
    before = len([*folder.iterdir()])
    assert {server.get(url, "HEAD")[0] for url in urls} == {200}
    assert send(server, "DELETE", done.body["url"]).status == 204
    assert {server.get(url, "HEAD")[0] for url in urls} == {404}
    assert send(server, "GET", done.body["url"]).status == 404
    assert len([*folder.iterdir()]) == before - 1


def test_a_recording_belongs_to_the_key_that_sent_it(tmp_path: Path, file: Part) -> None:
    secrets = {name: make_key() for name in ("owner", "other", "listener")}
    keys = ", ".join(
        f'{name} = {{sha256 = "{digest}", scopes = ["{scope}"]}}'
        for (name, (_, digest)), scope in zip(
            secrets.items(), ("files", "files", "subscribe"), strict=True
        )
    )

    def bearer(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secrets[name][0]}"}

    settings = ("--set", f"files.folder={tmp_path / 'o'}", "--set", f"auth.keys={{{keys}}}")
    with running_server(*settings) as server:
        assert post(server, "", file).status == 401
        assert post(server, "", file, headers=bearer("listener")).status == 403
        done = post(server, "?wait=60", file, headers=bearer("owner"))
        assert done.status == 200
        url, result = done.body["url"], done.body["files"][0]["url"]

        def statuses(method: str, path: str) -> list[int]:
            return [server.get(path, method, bearer(name))[0] for name in secrets]

        assert statuses("GET", url) == [200, 404, 403]
        assert statuses("GET", result) == [200, 404, 403]
        assert [send(server, method, url).status for method in ("GET", "DELETE")] == [401, 401]
        assert send(server, "DELETE", url, headers=bearer("other")).status == 404
        assert send(server, "DELETE", url, headers=bearer("owner")).status == 204
        refused = {line["path"] for line in server.lines if line["event"] == "request refused"}
        assert refused == {"/v1/files", "/v1/files/", "/v1/results/"}
        assert done.body["file_id"] not in server.log(), "without keys it is the only protection"
        assert done.body["file_id"][:17] in server.log()


# -- invalid requests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "param", "text"),
    [
        ("?granularity=word", 422, "granularity", "'utterance' or 'frame'"),
        ("?embedding=maybe", 422, "embedding", "valid boolean"),
        ("?wait=601", 422, "wait", "less than or equal to 600"),
        ("?wait=-1", 422, "wait", "greater than or equal to 0"),
        ("?wait=nan", 422, "wait", "600"),
        ("?wait=soon", 422, "wait", "number"),
        ("?name=" + "x" * 256, 422, "name", "at most 255"),
        ("?loud=true", 422, "loud", "unknown query parameter 'loud'; known: baseline"),
        ("?language=klingonisch", 422, "language", "match"),
        ("?roles=a,b,c", 422, "roles", "2"),
        ("?roles=agent", 403, "options.roles", "privacy.analyse_roles"),
    ],
)
def test_an_invalid_query_is_named(
    server: Server, file: Part, query: str, status: int, param: str, text: str
) -> None:
    refused = post(server, query, file)
    assert (refused.status, refused.body["param"]) == (status, param)
    assert text in refused.body["error"]


@pytest.mark.parametrize(
    ("content", "status", "param", "text"),
    [
        (b"{", 400, "options", "must be a JSON object"),
        (b"[]", 400, "options", "must be a JSON object, not list"),
        (b"\xff", 400, "options", "must be a JSON object"),
        (b"", 400, "options", "must be a JSON object"),
        (b'{"granularity": "word"}', 422, "options.granularity", "'utterance' or 'frame'"),
        (b'{"loud": true}', 422, "options.loud", "is not a known key"),
        (b'{"roles": ["agent"]}', 403, "options.roles", "privacy.analyse_roles"),
        (b'{"language": "' + b"x" * 20_000 + b'"}', 400, None, "more than 16384 bytes"),
    ],
)
@pytest.mark.parametrize("first", ["options", "file"])
def test_invalid_options_are_named(
    server: Server,
    file: Part,
    first: str,
    content: bytes,
    status: int,
    param: str | None,
    text: str,
) -> None:
    options: Part = ("options", None, content)
    refused = post(server, "", *((options, file) if first == "options" else (file, options)))
    assert (refused.status, refused.body.get("param")) == (status, param)
    assert text in refused.body["error"]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([("options", None, b"{}")], "no part named file"),
        ([("file", "a", b"x"), ("file", "b", b"x")], "two parts named file"),
        ([("audio", "a", b"x")], "unknown part 'audio'"),
        ([("file", "a" * 256, b"x")], "more than 255 characters"),
        ([], "no part named file"),
    ],
)
def test_a_form_with_wrong_parts_is_refused(server: Server, parts: list[Part], text: str) -> None:
    refused = post(server, "", *parts)
    assert (refused.status, refused.body["code"]) == (400, "invalid_message")
    assert text in refused.body["error"]


def test_a_malformed_form_is_refused_and_leaves_nothing(
    server: Server, folder: Path, audio: bytes
) -> None:
    before = set(folder.iterdir()) if folder.exists() else set()
    body, headers = form(("file", "a.mp3", audio))

    def text(body: bytes, content_type: str = headers["Content-Type"]) -> str:
        refused = send(server, "POST", "/v1/files", body, {"Content-Type": content_type})
        assert refused.status == 400
        return str(refused.body["error"])

    assert "has no boundary" in text(body, "multipart/form-data")
    assert "is incomplete" in text(body[: len(body) // 2])
    assert "is incomplete" in text(body[:-6])
    assert "is incomplete" in text(b"")
    assert "malformed" in text(b"something else")
    assert "has no name" in text(body.replace(b'; name="file"', b""))
    assert "has no name" in text(body.replace(b"form-data", b"attachment"))
    assert "malformed" in text(body.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 1))
    encoded = b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert "must be binary" in text(body.replace(b"\r\n\r\n", encoded, 1))
    assert send(server, "POST", "/v1/files", b"", {"Content-Type": "multipart/mixed"}).status == 415
    assert set(folder.iterdir()) == before
    assert server.metric("emotide_files_active") == 0
    loggers = {line["logger"] for line in server.lines}
    assert not [name for name in loggers if name.startswith("python_multipart")]


def test_an_empty_file_is_refused(server: Server) -> None:
    for refused in (post(server, "", ("file", "a.mp3", b"")), send(server, "POST", "/v1/files")):
        assert (refused.status, refused.body["code"]) == (422, "empty_file")


def test_a_plain_get_of_files_names_both_ways(server: Server) -> None:
    refused = send(server, "GET", "/v1/files")
    assert (refused.status, refused.headers["upgrade"]) == (426, "websocket")
    assert "use POST" in refused.body["error"]
    wrong = send(server, "PUT", "/v1/files")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
    wrong = send(server, "POST", "/v1/files/file_0")
    assert (wrong.status, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert send(server, "GET", "/v1/files/file_0").status == 404
    assert send(server, "DELETE", "/v1/files/file_0").status == 404


# -- limits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for files of at most 100 kB, with short timeouts and a place for one client."""
    folder = tmp_path_factory.mktemp("small")
    limits = ("files.max_mb=0.1", "limits.idle_timeout_s=1", "files.max_clients=1")
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
    begun = time.monotonic()
    with opened(small, head) as sock:
        refused = answer(sock)
        assert sock.recv(1) == b"", "the connection is closed"
    assert time.monotonic() - begun < 1
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
    with opened(small, head, b"x" * 100) as sock:
        refused = answer(sock)
    assert (refused.status, refused.body["code"]) == (408, "idle_timeout")
    assert small.metric("emotide_files_total", outcome="idle_timeout") == 1


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


def test_disclosure_is_required_before_the_file(tmp_path: Path, file: Part) -> None:
    required = "privacy.require_disclosure=true"
    with running_server("--set", f"files.folder={tmp_path}", "--set", required) as server:
        yes: Part = ("options", None, b'{"disclosed": true}')
        for refused in (post(server, "", file), post(server, "", file, yes)):
            assert (refused.status, refused.body["code"]) == (403, "disclosure_required")
            assert refused.body["param"] == "options.disclosed"
            assert "options has to come before the part file" in refused.body["error"]
        assert not [*tmp_path.iterdir()]
        assert post(server, "?wait=60&disclosed=true", file).status == 200
        assert post(server, "?wait=60", yes, file).status == 200


def test_recordings_are_recorded_in_the_audit_log(tmp_path: Path, file: Part) -> None:
    path = tmp_path / "audit.jsonl"
    with running_server(
        *("--set", f"files.folder={tmp_path / 'o'}", "--set", f"privacy.audit_log={path}")
    ) as server:
        done = post(server, "?wait=60&disclosed=true&roles=customer", file)
        post(server, "?loud=1", file)
    [entry] = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    del entry["ts"]
    assert entry == {
        "event": "file.start",
        "tenant": "default",
        "key": None,
        "file_id": done.body["file_id"][:17],
        "bytes": len(file[2]),
        "roles": ["customer"],
        "disclosed": True,
    }


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


# -- lost connections, drain -------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["upload", "wait"])
def test_a_client_that_disconnects_cancels_its_recording(
    tmp_path: Path, audio: bytes, stage: str
) -> None:
    with gated(tmp_path) as (server, _):
        size = len(audio) + (1 if stage == "upload" else 0)
        head = f"POST /v1/files?wait=60 HTTP/1.1\nContent-Length: {size}\r\n\r\n"
        with opened(server, head, audio):
            wait_for(lambda: server.metric("emotide_files_active") == 1)
            assert len([*(tmp_path / "o").iterdir()]) == 1
            if stage == "wait":
                wait_for(lambda: [*(tmp_path / "o").glob("*/*.wav")])
        wait_for(lambda: server.metric("emotide_files_active") == 0)
        assert server.metric("emotide_files_total", outcome="cancelled") == 1
        wait_until_empty(tmp_path / "o")


def test_a_client_that_disconnects_while_it_polls_cancels_nothing(
    tmp_path: Path, file: Part
) -> None:
    with gated(tmp_path) as (server, gate):
        url = post(server, "", file).body["url"]
        running(server, url)
        with opened(server, f"GET {url}?wait=60 HTTP/1.1\n\r\n"):
            time.sleep(0.2)
        time.sleep(0.2)
        assert send(server, "GET", url).body["status"] == "running"
        gate.open()
        assert send(server, "GET", url + "?wait=60").body["status"] == "done"


def test_a_drain_answers_waiting_requests_and_removes_files(tmp_path: Path, file: Part) -> None:
    """An upload, a POST and a GET that wait: all are answered 503, and nothing is left."""
    with gated(tmp_path) as (server, gate), contextlib.ExitStack() as stack:
        url = post(server, "", file).body["url"]
        running(server, url)
        pool = stack.enter_context(ThreadPoolExecutor(2))
        waiting = [
            pool.submit(post, server, "?wait=60", file),
            pool.submit(send, server, "GET", url + "?wait=60"),
        ]
        head = "POST /v1/files HTTP/1.1\nContent-Length: 1000\r\n\r\n"
        upload = stack.enter_context(opened(server, head, b"x" * 100))
        wait_for(lambda: server.metric("emotide_files_active") == 3)
        server.signal()
        for response in [*(job.result(20) for job in waiting), answer(upload)]:
            assert (response.status, response.body["code"]) == (503, "draining")
            assert response.headers["retry-after"] == "1"
        gate.open()
        assert server.exit(15) == 0
        assert not server.non_json
        assert not [line for line in server.lines if line["level"] == "error"]
        assert not [*(tmp_path / "o").iterdir()]


def test_a_track_is_chosen_by_the_query_or_a_form(server: Server, tmp_path: Path) -> None:
    """The first of two tracks was taken, whichever the file marked, and no one could choose."""
    two = tracks(tmp_path / "t.mkv", [SHORT * 0, SHORT], default=1).read_bytes()
    file: Part = ("file", "t.mkv", two)

    def track(answer: Answer) -> tuple[int, int, bool]:
        source = answer.body["result"]["file"]
        return source["track"], source["tracks"], "no_speech" in answer.body["result"]["hints"]

    assert track(post(server, "?wait=60", file)) == (2, 2, False)
    assert track(post(server, "?wait=60&track=1", file)) == (1, 2, True)
    assert track(post(server, "?wait=60", ("options", None, b'{"track": 1}'), file)) == (1, 2, True)
    answer = post(server, "?wait=60&track=3", file)
    assert (answer.status, answer.body["code"]) == (422, "unknown_track")
    assert answer.body["param"] == "options.track"
    assert post(server, "?track=-1", file).status == 422
