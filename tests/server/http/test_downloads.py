"""Downloads of results over HTTP: headers, ranges, limits, keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from stream.server.access.auth import make_key
from tests.support.audio_files import record
from tests.support.contract import validate
from tests.support.running import Event, Server, running_server, started_server
from tests.support.scheduling import until
from tests.support.uploading import analyse, uploader
from tests.support.utterances import RATE, speech

OWNER, OWNER_DIGEST = make_key()
OTHER, OTHER_DIGEST = make_key()
LISTENER, LISTENER_DIGEST = make_key()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server("--set", f"files.folder={folder}") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Event:
    path = tmp_path_factory.mktemp("r") / "Gespräch (1).wav"
    async with uploader(server) as client:
        return await analyse(client, record(path, np.tile(speech(), 30)))


def url_of(done: Event, name: str) -> str:
    return str(next(file["url"] for file in done["files"] if file["name"] == name))


def test_a_download_has_its_headers(server: Server, done: Event) -> None:
    url = url_of(done, "processed_audio.wav")
    status, headers, body = server.get(url)
    assert status == 200
    assert len(body) > 5_000_000
    assert headers["content-type"] == "audio/wav"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, no-store"
    assert headers["content-disposition"] == (
        'attachment; filename="Gespr_ch-1_processed_audio.wav"; '
        "filename*=UTF-8''Gespr%C3%A4ch-1_processed_audio.wav"
    )
    status, head, empty = server.get(url, "HEAD")
    assert (status, empty) == (200, b"")
    assert head["content-length"] == headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-43", 206, slice(0, 44)),
        ("bytes=1000000-", 206, slice(1_000_000, None)),
        ("bytes=-100", 206, slice(-100, None)),
        ("bytes=44-99999999999", 206, slice(44, None)),
        ("bytes=5-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=99999999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(server: Server, done: Event, header: str, status: int, part: slice | None) -> None:
    url = url_of(done, "processed_audio.wav")
    whole = server.get(url)[2]
    received, headers, body = server.get(url, headers={"Range": header})
    assert received == status
    if part is None:
        assert headers["content-range"] == f"bytes */{len(whole)}"
        assert orjson.loads(body)["error"]
        return
    assert body == whole[part]
    if status == 206:
        start, stop, _ = part.indices(len(whole))
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_several_ranges_are_sent_as_parts(server: Server, done: Event) -> None:
    url = url_of(done, "processed_audio.wav")
    whole = server.get(url)[2]
    status, headers, body = server.get(url, headers={"Range": "bytes=0-3,8-11"})
    assert status == 206
    assert headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(headers["content-length"]) == len(body)
    size = len(whole)
    for start, stop in ((0, 4), (8, 12)):
        head = f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n\r\n".encode()
        assert head + whole[start:stop] in body


def test_only_published_files_can_be_downloaded(server: Server, done: Event, folder: Path) -> None:
    (folder / "secret.txt").write_text("secret")
    key = url_of(done, "result.json").split("/")[3]
    for path in (
        f"/v1/results/{key}/../secret.txt",
        f"/v1/results/{key}/..%2Fsecret.txt",
        f"/v1/results/{key}/%2e%2e/secret.txt",
        f"/v1/results/{key}/.emotide",
        f"/v1/results/{key}/",
        f"/v1/results/{key}",
        f"/v1/results/{key[:-1]}{'AB'[key[-1] == 'A']}/result.json",
        "/v1/results/",
        f"/v1/results/../../{folder.name}/secret.txt",
        f"/v1/results/{key}/result.json%00.txt",
        f"/v1/results//{folder}/secret.txt",
    ):
        assert server.get(path)[0] == 404, path
    assert server.get(f"/v1/results/{key}/result.json?x=1")[0] == 200
    assert server.get(f"/v1/results/{key}/result.json", "POST")[0] == 405
    assert len(key) == 32


@pytest.mark.parametrize(
    "name",
    [
        "../../../escaped.wav",
        "/escaped.wav",
        "..\\..\\escaped.wav",
        "....//escaped.wav",
        ".emotide",
        "a\r\nSet-Cookie: x=1.wav",
        "a\x00b.wav",
        '".wav',
        "…" * 100,
    ],
)
async def test_a_file_name_is_never_a_path_or_a_header(
    name: str, server: Server, folder: Path, tmp_path: Path
) -> None:
    """The name of an uploaded file is only displayed."""
    content = record(tmp_path / "a.mp3", speech()[: 4 * RATE]).read_bytes()
    before = {*folder.parent.rglob("*")}

    async with uploader(server) as client:
        await client.send("file.begin", name=name, size=len(content))
        await client.socket.send(content)
        await client.send("file.end")
        done = await client.until("file.done", timeout=60)

    assert done["result"]["file"]["name"] == name
    created = {*folder.parent.rglob("*")} - before
    [result] = [path for path in created if path.is_dir()]
    assert result.parent == folder
    published = {file["name"] for file in done["files"]}
    assert {path.name for path in created - {result}} == published | {".emotide"}
    headers = server.get(url_of(done, "result.json"))[1]
    assert "set-cookie" not in headers
    filename = headers["content-disposition"].partition("filename*=")[2]
    assert not set(filename) & set('/\\";'), filename


async def test_slow_downloads_use_little_memory_and_do_not_block_others(tmp_path: Path) -> None:
    """Twenty clients stop reading a large file; the server holds one piece for each."""
    path = record(tmp_path / "a.flac", np.tile(speech(), 120))

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_downloads=25"
    ) as server:
        async with uploader(server) as client:
            done = await analyse(client, path)

        before = server.rss()
        request = f"GET {url_of(done, 'processed_audio.wav')} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        readers = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(request.encode())
            readers.append((reader, writer))
        await asyncio.sleep(2)
        assert server.rss() - before < 40e6
        assert (await asyncio.to_thread(server.get, "/healthz"))[0] == 200
        small = await asyncio.to_thread(server.get, url_of(done, "result.json"))
        assert small[0] == 200

        # A slow client that reads again gets the complete file.
        reader, writer = readers[0]
        response = await asyncio.wait_for(reader.read(-1), 60)
        assert len(response) > 2 * 120 * len(speech())
        for _, writer in readers:
            writer.transport.abort()


async def test_too_many_downloads_get_retry_after(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 120))

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_downloads=1"
    ) as server:
        async with uploader(server) as client:
            done = await analyse(client, path)
        url = url_of(done, "processed_audio.wav")

        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.read(10)
        status, headers, _ = await asyncio.to_thread(server.get, url)
        assert (status, headers["retry-after"]) == (503, "2")

        writer.transport.abort()
        for _ in range(400):
            if (await asyncio.to_thread(server.get, url, "HEAD"))[0] == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("an aborted download still counts")


async def test_with_keys_a_result_needs_the_key_of_its_recording(tmp_path: Path) -> None:
    """Its URL alone was enough, although URLs end up in logs, histories and chats."""
    keys = ", ".join(
        f'{name} = {{sha256 = "{digest}", scopes = ["{scope}"]}}'
        for name, digest, scope in (
            ("owner", OWNER_DIGEST, "files"),
            ("other", OTHER_DIGEST, "files"),
            ("listener", LISTENER_DIGEST, "subscribe"),
        )
    )

    def statuses(server: Server, url: str) -> list[int]:
        keys = (None, LISTENER, OTHER, OWNER)
        return [server.get(url, headers=bearer(key))[0] for key in keys]

    settings = ("--set", f"files.folder={tmp_path / 'o'}", "--set", f"auth.keys={{{keys}}}")
    with running_server(*settings) as server:
        for key, status in ((None, 401), (LISTENER, 403)):
            with pytest.raises(InvalidStatus) as upgrade:
                async with uploader(server, additional_headers=bearer(key)):
                    pass
            assert upgrade.value.response.status_code == status

        async with uploader(server, additional_headers=bearer(OWNER)) as client:
            done = await analyse(client, record(tmp_path / "a.mp3"))

        url = url_of(done, "result.json")
        assert statuses(server, url) == [401, 403, 404, 200]
        assert [server.get(url, "HEAD", bearer(key))[0] for key in (None, OWNER)] == [401, 200]
        expected = {"/v1/files", "/v1/results/"}
        await until(lambda: refused_paths(server) >= expected)
        assert refused_paths(server) == expected
        assert url not in server.log(), "the id of a result must not be logged"

    with running_server(*settings) as server:
        server.line("ready")
        assert statuses(server, url) == [401, 403, 404, 200], "unchanged after a restart"


def refused_paths(server: Server) -> set[str]:
    return {str(x.get("path")) for x in server.lines if x["event"] == "request refused"}


def bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


async def test_a_request_has_a_time_limit(tmp_path: Path) -> None:
    """Downloads may be slow, but a connection without a complete request is closed."""

    with started_server() as server:
        server.wait_for_port()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTT")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


def test_the_contract_is_checked() -> None:
    with pytest.raises(AssertionError):
        validate({"type": "file.done", "v": 1}, "to_uploader")
