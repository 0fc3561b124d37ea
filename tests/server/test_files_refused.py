"""Recordings that the real server cannot take, and messages that make no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.audio_files import bad_files, record
from tests.support.clients import run
from tests.support.running import Server, running_server
from tests.support.uploading import analysed, emptied, send, uploader
from tests.support.utterances import speech


def test_bad_files_get_their_code_and_the_connection_goes_on(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    async def session() -> None:
        async with uploader(server) as client:
            for name, (path, code) in bad_files(tmp_path).items():
                told = await analysed(client, path)
                assert (told["type"], told.get("code")) == ("error", code), name
                assert not told["fatal"]
                assert told["file_id"].startswith("file_")
            empty = tmp_path / "empty.wav"
            empty.touch()
            assert (await analysed(client, empty))["code"] == "empty_file"
            assert (await analysed(client, record(tmp_path / "a.wav")))["type"] == "file.done"

    before = set(folder.iterdir())
    run(session(), 90)
    assert len(set(folder.iterdir()) - before) == 1


def test_sizes_and_lengths_are_bounded(tmp_path: Path) -> None:
    async def session(server: Server) -> None:
        async with uploader(server) as client:
            assert client.events[0]["limits"]["max_bytes"] == 100_000
            large = record(tmp_path / "large.wav")
            told = await analysed(client, large)
            assert (told["code"], told["param"]) == ("file_too_large", "size")
            long = record(tmp_path / "long.mp3", np.tile(speech(), 3))
            assert (await analysed(client, long))["code"] == "audio_too_long"
            await client.say("file.begin", name="liar.wav", size=1000)
            await client.socket.send(b"x" * 2000)
            await client.until(lambda e: e.get("param") == "size", 2)
            await client.socket.send(b"x" * 2000)
            await client.say("file.end")
            assert (await analysed(client, record(tmp_path / "a.mp3")))["type"] == "file.done"

    limits = ["--set", "files.max_mb=0.1", "--set", "files.max_minutes=0.25"]
    with running_server("--set", f"files.folder={tmp_path / 'o'}", *limits) as server:
        run(session(server), 60)
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
def test_a_wrong_message_costs_nothing(
    server: Server, tmp_path: Path, messages: list[str | bytes], code: str, param: str | None
) -> None:
    async def session() -> None:
        async with uploader(server) as client:
            for message in messages:
                await client.socket.send(message)
            told = await client.until("error")
            assert (told["code"], told.get("param"), told["fatal"]) == (code, param, False)
            await client.say("file.cancel")
            if len(client.of("file.accepted")) and param != "size":
                await client.until("file.cancelled")
                client.events.clear()
            assert (await analysed(client, record(tmp_path / "a.mp3")))["type"] == "file.done"

    run(session(), 60)


@pytest.mark.parametrize("late", ['{"type":"file.end"}', b"more", b""])
def test_messages_after_the_end_leave_the_running_job_alone(
    server: Server, tmp_path: Path, late: str | bytes
) -> None:
    """A second file.end started a second job on the same file; a late byte took the file away."""

    async def session() -> None:
        async with uploader(server) as client:
            await send(client, record(tmp_path / "a.mp3"))
            await client.socket.send(late)
            told = await client.until("error")
            assert (told["code"], told["param"], told["fatal"]) == (
                "invalid_message",
                "type",
                False,
            )
            assert (await client.until("file.done"))["type"] == "file.done"
            assert (await analysed(client, record(tmp_path / "b.mp3")))["type"] == "file.done"
            assert len(client.of("file.done")) == 2

    run(session(), 60)


def test_the_tenth_wrong_message_ends_the_connection(server: Server) -> None:
    async def session() -> None:
        async with uploader(server) as client:
            for _ in range(10):
                await client.text("{}")
            assert await client.closed() == 4400
            assert [e["fatal"] for e in client.of("error")] == [False] * 9 + [True]

    run(session(), 30)


def test_whoever_only_sits_there_is_sent_away(tmp_path: Path) -> None:
    async def session(server: Server) -> None:
        async with uploader(server) as idle, uploader(server) as stuck:
            await stuck.say("file.begin", name="a.wav", size=1000)
            await stuck.until("file.accepted")
            assert await idle.closed() == 4408
            assert await stuck.closed() == 4408
            assert idle.of("error")[-1]["code"] == "idle_timeout"

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "limits.idle_timeout_s=1"
    ) as server:
        run(session(server), 30)
        emptied(tmp_path / "o")


def test_disclosure_is_asked_for_as_in_calls(tmp_path: Path) -> None:
    async def session(server: Server) -> None:
        async with uploader(server) as client:
            path = record(tmp_path / "a.mp3")
            told = await analysed(client, path)
            assert (told["code"], told["param"]) == ("disclosure_required", "options.disclosed")
            assert "options.disclosed" in told["message"]
            assert (await analysed(client, path, disclosed=True))["type"] == "file.done"

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "privacy.require_disclosure=true"
    ) as server:
        run(session(server), 30)
