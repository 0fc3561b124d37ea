"""Recordings over HTTP that are refused for what they say: query, options, form, disclosure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.posting import (
    Part,
    form,
    post,
    send,
)
from tests.support.running import Server, running_server


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
