"""Requests that send a recording over HTTP, and checks of every answer against OpenAPI."""

from __future__ import annotations

import contextlib
import functools
import http.client
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT7, DRAFT202012

from tests.support.running import PATIENCE_S, ROOT, Gate, Server, running_server

DOCUMENT = ROOT / "docs" / "openapi.json"
URI = "http://emotide.example/openapi.json"
SCHEMA_URI = "http://emotide.example/result.schema.json"

Part = tuple[str, str | None, bytes]
"""Name, filename or None, and content of a part."""


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of a response."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """Decoded JSON; None if the body is empty."""


def send(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Answer:
    """Send one request whose response is JSON or empty; check it against the document."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return read(connection.getresponse())
    finally:
        connection.close()


def read(response: http.client.HTTPResponse) -> Answer:
    """Return a response of a recording's endpoint, checked against the document."""
    content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = None
    if content:
        assert headers["content-type"] == "application/json", (headers, content)
        body = orjson.loads(content)
    assert headers["x-content-type-options"] == "nosniff"
    assert "date" in headers
    if body is not None:
        check("Recording" if "file_id" in body else "Error", body)
    return Answer(response.status, headers, body)


def form(*parts: Part) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a form."""
    boundary = secrets.token_hex(8)
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"'
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body += content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def post(
    server: Server, query: str, *parts: Part, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send a form to /v1/files."""
    body, own = form(*parts)
    return send(server, "POST", f"/v1/files{query}", body, {**own, **(headers or {})})


@functools.cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    loaded: dict[str, Any] = orjson.loads(DOCUMENT.read_bytes())
    return loaded


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    result = orjson.loads((ROOT / "docs" / "result.schema.json").read_bytes())
    del result["$id"]
    registry: Registry[Any] = Registry().with_resources(
        [
            (URI, DRAFT202012.create_resource(document())),
            (SCHEMA_URI, DRAFT7.create_resource(result)),
        ]
    )
    return Draft202012Validator({"$ref": f"{URI}#/components/schemas/{schema}"}, registry=registry)


def check(schema: str, body: Any) -> None:
    """Raise `AssertionError` unless `body` conforms to a schema of the document."""
    error = best_match(_validator(schema).iter_errors(body))
    assert error is None, f"{schema} {error.json_path}: {error.message} in {body}"


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


def wait_until_running(server: Server, url: str, headers: Mapping[str, str] | None = None) -> None:
    """Wait until the analysis of a recording has begun."""
    wait_for(
        lambda: send(server, "GET", url, None, headers).body["progress"]["stage"] == "analysis"
    )


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Block this thread, never an event loop's, until `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not fulfilled in time"
        time.sleep(0.02)


@contextlib.contextmanager
def opened(server: Server, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """Send a request by hand: its first line and headers without Host, and a part of its body."""
    with socket.create_connection((server.host, server.port), PATIENCE_S) as sock:
        sock.sendall(head.replace("\n", f"\r\nHost: {server.host}\r\n", 1).encode() + body)
        yield sock


def answer(sock: socket.socket) -> Answer:
    """Read the response to a request by hand."""
    response = HTTPResponse(sock, method="POST")
    response.begin()
    return read(response)
