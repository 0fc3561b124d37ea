"""Refused recordings and invalid messages on /v1/files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.protocol.mistakes import MAX_MISTAKES
from tests.support.audio_files import bad_files, record
from tests.support.running import Server, running_server
from tests.support.uploading import analyse, upload, uploader, wait_until_empty
from tests.support.utterances import speech


async def test_bad_files_get_their_error_code_and_the_connection_stays_open(
    server: Server, folder: Path, tmp_path: Path
) -> None:

    before = set(folder.iterdir())
    async with uploader(server) as client:
        for name, (path, code) in bad_files(tmp_path).items():
            event = await analyse(client, path)
            assert (event["type"], event.get("code")) == ("error", code), name
            assert not event["fatal"]
            assert event["file_id"].startswith("file_")
        empty = tmp_path / "empty.wav"
        empty.touch()
        assert (await analyse(client, empty))["code"] == "empty_file"
        assert (await analyse(client, record(tmp_path / "a.wav")))["type"] == "file.done"
    assert len(set(folder.iterdir()) - before) == 1


async def test_file_size_and_duration_are_limited(tmp_path: Path) -> None:
    limits = ["--set", "files.max_mb=0.1", "--set", "files.max_minutes=0.25"]
    with running_server("--set", f"files.folder={tmp_path / 'o'}", *limits) as server:
        async with uploader(server) as client:
            assert client.events[0]["limits"]["max_bytes"] == 100_000

            large = record(tmp_path / "large.wav")
            event = await analyse(client, large)
            assert (event["code"], event["param"]) == ("file_too_large", "size")
            long = record(tmp_path / "long.mp3", np.tile(speech(), 3))
            assert (await analyse(client, long))["code"] == "audio_too_long"

            await client.send("file.begin", name="longer.wav", size=1000)
            await client.socket.send(b"x" * 2000)
            await client.until(lambda e: e.get("param") == "size", 2)
            await client.socket.send(b"x" * 2000)
            await client.send("file.end")
            assert (await analyse(client, record(tmp_path / "a.mp3")))["type"] == "file.done"
        assert len([*(tmp_path / "o").iterdir()]) == 1


@pytest.mark.parametrize(
    ("messages", "code", "param"),
    [
        (["{"], "invalid_message", None),
        (['{"type":"file.start"}'], "unknown_message", "type"),
        (['{"type":"file.begin","name":"a"}'], "invalid_message", "size"),
        (['{"type":"file.begin","name":"a","size":-1}'], "invalid_message", "size"),
        (
            ['{"type":"file.begin","name":"a","size":1,"options":{"granularity":"word"}}'],
            "config_invalid",
            "options.granularity",
        ),
        (
            ['{"type":"file.begin","name":"a","size":1,"options":{"loud":true}}'],
            "config_invalid",
            "options.loud",
        ),
        (['{"type":"file.end"}'], "invalid_message", "type"),
        ([b"audio"], "invalid_message", "type"),
        (
            [
                '{"type":"file.begin","name":"a","size":1}',
                '{"type":"file.begin","name":"b","size":1}',
            ],
            "invalid_message",
            "type",
        ),
        (
            ['{"type":"file.begin","name":"a","size":9}', '{"type":"file.end"}'],
            "invalid_message",
            "size",
        ),
    ],
)
async def test_an_invalid_message_does_not_affect_the_next_file(
    server: Server, tmp_path: Path, messages: list[str | bytes], code: str, param: str | None
) -> None:
    async with uploader(server) as client:
        for message in messages:
            await client.socket.send(message)
        event = await client.until("error")
        assert (event["code"], event.get("param"), event["fatal"]) == (code, param, False)
        await client.send("file.cancel")
        if len(client.of("file.accepted")) and param != "size":
            await client.until("file.cancelled")
            client.events.clear()
        assert (await analyse(client, record(tmp_path / "a.mp3")))["type"] == "file.done"


@pytest.mark.parametrize("late", ['{"type":"file.end"}', b"more", b""])
async def test_messages_after_file_end_do_not_affect_the_running_job(
    server: Server, tmp_path: Path, late: str | bytes
) -> None:
    """A second file.end started a second job on the same file; a late byte removed the file."""

    async with uploader(server) as client:
        await upload(client, record(tmp_path / "a.mp3"))
        await client.socket.send(late)
        event = await client.until("error")
        assert (event["code"], event["param"], event["fatal"]) == (
            "invalid_message",
            "type",
            False,
        )
        assert (await client.until("file.done"))["type"] == "file.done"
        assert (await analyse(client, record(tmp_path / "b.mp3")))["type"] == "file.done"
        assert len(client.of("file.done")) == 2


async def test_a_flood_of_invalid_messages_closes_the_connection(server: Server) -> None:
    async with uploader(server) as client:
        for _ in range(MAX_MISTAKES + 20):
            await client.text("{}")
        assert await client.closed() == 4400
        errors = client.of("error")
        assert MAX_MISTAKES <= len(errors) < MAX_MISTAKES + 20
        assert [e["fatal"] for e in errors] == [False] * (len(errors) - 1) + [True]


async def test_idle_connections_are_closed(tmp_path: Path) -> None:
    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "limits.idle_timeout_s=2"
    ) as server:
        async with uploader(server) as idle, uploader(server) as stuck:
            await stuck.send("file.begin", name="a.wav", size=1000)
            await stuck.until("file.accepted")
            assert await idle.closed() == 4408
            assert await stuck.closed() == 4408
            assert idle.of("error")[-1]["code"] == "idle_timeout"
        wait_until_empty(tmp_path / "o")


async def test_disclosure_is_required_as_in_live_streams(tmp_path: Path) -> None:
    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "privacy.require_disclosure=true"
    ) as server:
        async with uploader(server) as client:
            path = record(tmp_path / "a.mp3")
            event = await analyse(client, path)
            assert (event["code"], event["param"]) == ("disclosure_required", "options.disclosed")
            assert "options.disclosed" in event["message"]
            assert (await analyse(client, path, disclosed=True))["type"] == "file.done"
