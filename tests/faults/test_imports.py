"""Nothing is imported once the server is ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import connect, stream, subscriber
from tests.support.running import Server, running_server
from tests.support.uploading import analyse
from tests.support.utterances import talk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("outputs")
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    args = ("--set", f"files.folder={folder}", "--model", "embedded")
    with running_server(*args, env=env) as running:
        yield running
        running.non_json.clear()


async def test_nothing_is_imported_during_a_call(server: Server) -> None:
    """At the descriptor limit the first utterance imported `numpy.fft`, failed, and ended the call.

    An import on the event loop also reads the disk while every stream waits.
    """
    before = len(server.non_json)
    async with subscriber(server), stream(server, frames="true", embeddings="false") as call:
        await call.audio(talk(3.0), 3200, 0.02)
        await call.close_session()
        assert call.of("emotion.score")
    assert imported(server, before) == []


async def test_nothing_is_imported_by_requests(server: Server) -> None:
    before = len(server.non_json)
    for path in ("/", "/metrics", "/v1/info", "/v1/streams", "/openapi.json", "/missing"):
        server.get(path)
    server.get("/openapi.json", headers={"Range": "bytes=0-1,4-5"})
    server.get("/v1/token", "POST")
    assert imported(server, before) == []


async def test_nothing_is_imported_by_recordings(server: Server) -> None:
    before = len(server.non_json)
    async with connect(server, "/v1/files") as client:
        await client.until("files.ready")
        done = await analyse(client, ROOT / "client" / "samples" / "call.flac")
        assert done["type"] == "file.done", done
        server.get(done["files"][0]["url"])
    assert imported(server, before) == []


def imported(server: Server, before: int) -> list[str]:
    """Return the modules that the server has imported, and its workers have not."""
    lines = [line for line in server.non_json[before:] if line.startswith("import time:")]
    return [line.rpartition("|")[2].strip() for line in lines]
