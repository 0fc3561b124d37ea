"""Results over HTTP: whoever has the address gets them, in pieces if asked, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from stream.server.auth import make_key
from tests.support.audio_files import record
from tests.support.clients import run
from tests.support.contract import validate
from tests.support.running import Event, Server, running_server, started_server
from tests.support.uploading import analysed, uploader
from tests.support.utterances import RATE, speech

MINE, DIGEST = make_key()
OTHERS, OTHERS_DIGEST = make_key()
LISTENER, LISTENERS_DIGEST = make_key()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server("--set", f"files.folder={folder}") as server:
        yield server


@pytest.fixture(scope="module")
def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Event:
    async def session() -> Event:
        async with uploader(server) as client:
            path = tmp_path_factory.mktemp("r") / "Gespräch (1).wav"
            return await analysed(client, record(path, np.tile(speech(), 30)))

    return run(session(), 90)


def url_of(done: Event, name: str) -> str:
    return str(next(file["url"] for file in done["files"] if file["name"] == name))


def test_a_download_says_what_it_is(server: Server, done: Event) -> None:
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
    status, about, nothing = server.get(url, "HEAD")
    assert (status, nothing) == (200, b"")
    assert about["content-length"] == headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-43", 206, slice(0, 44)),
        ("bytes=1000000-", 206, slice(1_000_000, None)),
        ("bytes=-100", 206, slice(-100, None)),
        ("bytes=44-99999999999", 206, slice(44, None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=5-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=99999999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(server: Server, done: Event, wanted: str, status: int, part: slice | None) -> None:
    url = url_of(done, "processed_audio.wav")
    whole = server.get(url)[2]
    got, headers, body = server.get(url, headers={"Range": wanted})
    assert got == status
    if part is None:
        assert headers["content-range"] == f"bytes */{len(whole)}"
        return
    assert body == whole[part]
    if status == 206:
        start, stop, _ = part.indices(len(whole))
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_nobody_gets_what_is_not_offered(server: Server, done: Event, folder: Path) -> None:
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
def test_no_name_leaves_its_folder(name: str, server: Server, folder: Path, tmp_path: Path) -> None:
    """What an uploader calls a file is shown to people, and is never a path or a header."""
    content = record(tmp_path / "a.mp3", speech()[: 4 * RATE]).read_bytes()

    async def session() -> Event:
        async with uploader(server) as client:
            await client.say("file.begin", name=name, size=len(content))
            await client.socket.send(content)
            await client.say("file.end")
            return await client.until("file.done", timeout=60)

    before = {*folder.parent.rglob("*")}
    done = run(session(), 60)
    assert done["result"]["file"]["name"] == name
    made = {*folder.parent.rglob("*")} - before
    [home] = [path for path in made if path.is_dir()]
    assert home.parent == folder
    offered = {file["name"] for file in done["files"]}
    assert {path.name for path in made - {home}} == offered | {".emotide"}
    headers = server.get(url_of(done, "result.json"))[1]
    assert "set-cookie" not in headers
    saved_as = headers["content-disposition"].partition("filename*=")[2]
    assert not set(saved_as) & set('/\\";'), saved_as


def test_long_downloads_take_no_memory_and_slow_readers_no_others(tmp_path: Path) -> None:
    """Twenty readers that stop reading a large file: the server holds a piece for each."""
    path = record(tmp_path / "a.flac", np.tile(speech(), 120))

    async def session(server: Server) -> None:
        async with uploader(server) as client:
            done = await analysed(client, path)
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
        # One that was slow gets all of it in the end.
        reader, writer = readers[0]
        whole = await asyncio.wait_for(reader.read(-1), 20)
        assert len(whole) > 2 * 120 * len(speech())
        for _, writer in readers:
            writer.transport.abort()

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_downloads=25"
    ) as server:
        run(session(server), 90)


def test_too_many_downloads_are_told_to_come_again(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 120))

    async def session(server: Server) -> None:
        async with uploader(server) as client:
            done = await analysed(client, path)
        url = url_of(done, "processed_audio.wav")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.read(10)
        status, headers, _ = await asyncio.to_thread(server.get, url)
        assert (status, headers["retry-after"]) == (503, "2")
        writer.transport.abort()
        for _ in range(100):
            if (await asyncio.to_thread(server.get, url, "HEAD"))[0] == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the place is never free again")

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_downloads=1"
    ) as server:
        run(session(server), 60)


def test_with_keys_a_result_is_whose_key_sent_the_recording(tmp_path: Path) -> None:
    """Its address alone was once enough; addresses end up in logs, histories and chats."""
    keys = ", ".join(
        f'{name} = {{sha256 = "{digest}", scopes = ["{scope}"]}}'
        for name, digest, scope in (
            ("mine", DIGEST, "files"),
            ("others", OTHERS_DIGEST, "files"),
            ("listener", LISTENERS_DIGEST, "subscribe"),
        )
    )

    async def session() -> Event:
        for key, status in ((None, 401), (LISTENER, 403)):
            with pytest.raises(InvalidStatus) as refused:
                async with uploader(server, additional_headers=bearer(key)):
                    pass
            assert refused.value.response.status_code == status
        async with uploader(server, additional_headers=bearer(MINE)) as client:
            return await analysed(client, record(tmp_path / "a.mp3"))

    def statuses(server: Server, url: str) -> list[int]:
        asked = (None, LISTENER, OTHERS, MINE)
        return [server.get(url, headers=bearer(key))[0] for key in asked]

    settings = ("--set", f"files.folder={tmp_path / 'o'}", "--set", f"auth.keys={{{keys}}}")
    with running_server(*settings) as server:
        url = url_of(run(session(), 60), "result.json")
        assert statuses(server, url) == [401, 403, 404, 200]
        assert [server.get(url, "HEAD", bearer(key))[0] for key in (None, MINE)] == [401, 200]
        refused = {line.get("path") for line in server.lines if "at the door" in line["event"]}
        assert refused == {"/v1/files", "/v1/results/"}
        assert url not in server.log(), "half a key, in the log"
    with running_server(*settings) as server:
        server.line("ready")
        assert statuses(server, url) == [401, 403, 404, 200], "after a restart as before"


def bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def test_a_request_must_come_soon(tmp_path: Path) -> None:
    """Downloads may be slow, but who says nothing is sent away as before."""

    async def session(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTT")
        assert await asyncio.wait_for(reader.read(), 15) == b""
        writer.close()

    with started_server() as server:
        server.listens()
        run(session(server), 30)


def test_every_event_was_held_against_the_contract() -> None:
    with pytest.raises(AssertionError):
        validate({"type": "file.done", "v": 1}, "to_uploader")
