"""Recordings sent to the real server: every end they can have, and that calls do not suffer."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import shutil
import statistics
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from client.connection import stream as live_stream
from client.pacing import Pacing
from client.replay import perform, play
from client.sources import blocks, chunks, probe
from stream.auth import make_key
from tests.audio_files import FORMATS, bad_files, cut, record
from tests.contract import document, validate, validator
from tests.running import (
    RATE,
    Client,
    Event,
    Gate,
    Server,
    connect,
    run,
    running_server,
    speech,
    started_server,
    stream,
    talk,
)

FULL, DIGEST = make_key()
LISTENER, LISTENERS_DIGEST = make_key()

OVER = ("file.done", "file.cancelled", "error")


@contextlib.asynccontextmanager
async def uploader(server: Server, **options: Any) -> AsyncIterator[Client]:
    """A connection on /v1/files that holds every event against the contract."""
    async with connect(server, "/v1/files", **options) as client:
        await client.until("files.ready")
        yield client


async def send(client: Client, path: Path, chunk: int = 65_536, **options: Any) -> None:
    """One whole file."""
    content = await asyncio.to_thread(path.read_bytes)
    begin = {"name": path.name, "size": len(content), "options": options}
    await client.say("file.begin", **begin)
    for at in range(0, len(content), chunk):
        await client.socket.send(content[at : at + chunk])
    await client.say("file.end")


async def analysed(client: Client, path: Path, **options: Any) -> Event:
    """The end of one file: its `file.done`, `file.cancelled` or `error`."""
    before = len(client.of(*OVER))
    await send(client, path, **options)
    return await client.until(lambda event: event["type"] in OVER, before + 1, timeout=60)


def fetch(server: Server, done: Event, name: str) -> bytes:
    [file] = [file for file in done["files"] if file["name"] == name]
    status, headers, body = server.get(file["url"])
    assert status == 200
    assert len(body) == file["bytes"] == int(headers["content-length"])
    return body


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server("--set", f"files.folder={folder}") as server:
        yield server


# -- what comes of a recording -----------------------------------------------------------------


def test_every_format_gets_its_result(server: Server, tmp_path: Path) -> None:
    async def all_of_them() -> None:
        async with uploader(server) as client:
            for name in [*FORMATS, "film.mp4"]:
                path = record(tmp_path / name, video=name == "film.mp4")
                done = await analysed(client, path)
                assert done["type"] == "file.done", (name, done)
                [channel] = done["result"]["channels"]
                assert [u["utterance"] for u in channel["utterances"]] == [0, 1], name
                assert done["result"]["file"]["name"] == name
                assert "truncated" not in done["result"]["hints"], name

    run(all_of_them(), 110)


def test_a_result_has_all_its_files(server: Server, folder: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "my call.wav")

    async def session() -> tuple[Event, Client]:
        async with uploader(server) as client:
            done = await analysed(client, path, granularity="frame", embedding=True, language="fr")
            return done, client

    done, client = run(session(), 60)
    validator(document()["components"]["schemas"]["Result"]).validate(done["result"])
    assert "frames" not in done["result"]
    result = orjson.loads(fetch(server, done, "result.json"))
    validator(document()["components"]["schemas"]["Result"]).validate(result)
    frames = result.pop("frames")
    assert result == done["result"]
    rows = list(csv.reader(io.StringIO(fetch(server, done, "frames.csv").decode())))
    labels = done["result"]["model"]["labels"]
    assert rows[0] == ["channel", "start_s", *labels]
    [column] = frames["channels"]
    assert [float(row[1]) for row in rows[1:]] == column["start_s"]
    assert np.allclose([list(map(float, row[2:])) for row in rows[1:]], column["posteriors"])
    assert np.allclose(np.sum(column["posteriors"], axis=1), 1, atol=1e-3)
    assert np.all(np.diff(column["start_s"]) > 0)
    embedding = np.load(io.BytesIO(fetch(server, done, "embedding.npy")))
    assert embedding.shape == (len(rows) - 1, 2)
    assert embedding.dtype == np.float32
    per_utterance = np.load(io.BytesIO(fetch(server, done, "embeddings_utterances.npy")))
    assert per_utterance.shape == (2, 2)
    with wave.open(io.BytesIO(fetch(server, done, "processed_audio.wav"))) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE, 1, 2)
        heard = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
    assert np.array_equal(heard, speech())
    assert client.of("emotion.score")[0]["frames"]["posteriors"]
    stages = [event["stage"] for event in client.of("file.progress")]
    assert list(dict.fromkeys(stages)) == ["upload", "decode", "analysis", "write"]
    assert client.of("file.progress")[-1]["share"] == 1
    [kept] = [one for one in folder.iterdir() if (one / "embedding.npy").exists()]
    assert kept.name.startswith("outputs_20")
    assert sorted(p.name for p in kept.iterdir() if not p.name.startswith(".")) == sorted(
        file["name"] for file in done["files"]
    )
    assert [p.name for p in kept.iterdir() if p.name.startswith(".")] == [".emotide"]


def test_the_utterances_embedding_is_one_vector(server: Server, tmp_path: Path) -> None:
    async def session() -> Event:
        async with uploader(server) as client:
            done = await analysed(client, record(tmp_path / "a.flac"), embedding=True)
            assert not any("frames" in e or "embedding" in e for e in client.of("emotion.score"))
            return done

    done = run(session(), 60)
    whole = np.load(io.BytesIO(fetch(server, done, "embedding.npy")))
    each = np.load(io.BytesIO(fetch(server, done, "embeddings_utterances.npy")))
    assert (whole.shape, each.shape) == ((2,), (2, 2))
    assert each.min(axis=0)[0] <= whole[0] <= each.max(axis=0)[0]
    assert "frames" not in orjson.loads(fetch(server, done, "result.json"))


def test_stereo_is_analysed_by_channel_and_equal_channels_as_one(
    server: Server, tmp_path: Path
) -> None:
    one = speech()
    two = np.stack([one, np.roll(one, RATE // 2)], axis=1)

    async def session() -> None:
        async with uploader(server) as client:
            done = await analysed(client, record(tmp_path / "two.wav", two))
            assert [c["role"] for c in done["result"]["channels"]] == ["customer"]
            assert client.of("file.log")[-1]["code"] == "channel_skipped"
            done = await analysed(
                client, record(tmp_path / "two.wav", two), roles=["speaker", "customer"]
            )
            assert [c["role"] for c in done["result"]["channels"]] == ["speaker", "customer"]
            assert all(len(c["utterances"]) == 2 for c in done["result"]["channels"])
            done = await analysed(client, record(tmp_path / "one.wav", np.stack([one, one], 1)))
            assert [c["role"] for c in done["result"]["channels"]] == ["speaker"]
            assert "channels_alike" in [e["code"] for e in client.of("file.log")]
            # Roles chosen for a queue of calls must not refuse the mono file among them.
            done = await analysed(client, record(tmp_path / "m.wav"), roles=["speaker", "customer"])
            assert [c["role"] for c in done["result"]["channels"]] == ["speaker"]
            refused = await analysed(client, record(tmp_path / "m.wav"), roles=["agent"])
            assert refused["code"] == "agent_channel_forbidden"

    run(session(), 90)


def test_silence_is_a_result_that_says_so(server: Server, tmp_path: Path) -> None:
    async def session() -> Event:
        async with uploader(server) as client:
            hush = np.random.default_rng(1).integers(-8, 9, 3 * RATE).astype(np.int16)
            return await analysed(client, record(tmp_path / "a.wav", hush))

    done = run(session(), 60)
    [channel] = done["result"]["channels"]
    assert (channel["utterances"], channel["scores"], channel["top"]) == ([], {}, None)
    assert done["result"]["hints"] == ["no_speech"]
    assert fetch(server, done, "frames.csv").count(b"\n") == 1


def test_a_cut_file_is_analysed_and_told_to_be_cut(server: Server, tmp_path: Path) -> None:
    async def session() -> None:
        async with uploader(server) as client:
            done = await analysed(client, cut(record(tmp_path / "a.flac"), 0.7))
            assert "truncated" in done["result"]["hints"]
            assert client.of("file.log")[-1]["code"] == "truncated"
            assert done["result"]["channels"][0]["utterances"]

    run(session(), 60)


def test_noise_suppression_changes_what_is_heard_and_warns(server: Server, tmp_path: Path) -> None:
    async def session() -> None:
        async with uploader(server) as client:
            assert client.events[0]["denoise"] is True
            done = await analysed(client, record(tmp_path / "a.wav"), denoise=True)
            assert done["result"]["options"]["denoise"] is True
            assert [e["code"] for e in client.of("file.log")] == ["decoded", "denoised"]
            assert client.of("file.log")[-1]["level"] == "warning"
            audio = fetch(server, done, "processed_audio.wav")
            assert len(audio) == 44 + 2 * len(speech())

    run(session(), 60)


# -- the same as live --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "mulaw.wav", "float.wav"])
def test_a_recording_and_its_live_replay_give_the_same(name: str, tmp_path: Path) -> None:
    """The promise behind the recordings: the shipped model, the real client, the real server."""
    path = record(tmp_path / name)

    async def replayed(server: Server) -> list[Event]:
        recording = probe(path)
        rate, heard = recording.sample_rate, []
        pieces = chunks(blocks(recording, rate, 1), rate // 50)
        call = live_stream(server.ws, sample_rate=rate, roles=["speaker"])
        await perform(
            call,
            lambda: play(call, pieces, rate, "linear16", Pacing(2.0), asyncio.Event()),
            heard.append,
        )
        return [event for event in heard if event["type"] == "emotion.segment"]

    async def sent(server: Server) -> tuple[Event, list[Event]]:
        async with uploader(server) as client:
            return await analysed(client, path), client.of("emotion.segment")

    with running_server("--set", f"files.folder={tmp_path / 'out'}", model="embedded") as server:
        live = run(replayed(server), 60)
        done, segments = run(sent(server), 60)
    assert len(live) == len(segments) == 2
    for one, other in zip(live, segments, strict=True):
        for key in ("utterance", "audio_start_ms", "audio_end_ms", "trigger", "quality", "hints"):
            assert one[key] == other[key], key
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-4)
    utterances = done["result"]["channels"][0]["utterances"]
    assert [round(1000 * u["start_s"]) for u in utterances] == [e["audio_start_ms"] for e in live]


def test_a_model_without_embeddings_says_so(tmp_path: Path) -> None:
    async def session(server: Server) -> None:
        async with uploader(server) as client:
            if client.events[0]["model"]["embedding_dim"]:
                done = await analysed(client, record(tmp_path / "a.wav"), embedding=True)
                dim = client.events[0]["model"]["embedding_dim"]
                assert np.load(io.BytesIO(fetch(server, done, "embedding.npy"))).shape == (dim,)
                return
            refused = await analysed(client, record(tmp_path / "a.wav"), embedding=True)
            assert (refused["code"], refused["param"]) == ("config_invalid", "options.embedding")
            assert "gives no embeddings" in refused["message"]

    with running_server("--set", f"files.folder={tmp_path / 'o'}", model="embedded") as server:
        run(session(server), 60)


# -- what goes wrong ---------------------------------------------------------------------------


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
        _emptied(tmp_path / "o")


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


# -- cancelled, lost, crowded ------------------------------------------------------------------


def _emptied(folder: Path, timeout_s: float = 10.0) -> None:
    """Wait until nothing is left in a folder of results."""

    deadline = time.monotonic() + timeout_s
    while folder.exists() and any(folder.iterdir()):
        assert time.monotonic() < deadline, f"left over: {[*folder.rglob('*')]}"
        time.sleep(0.05)


@contextlib.contextmanager
def gated(tmp_path: Path, *args: str) -> Iterator[tuple[Server, Gate]]:
    """A server whose model waits while the gate is shut."""
    gate = Gate(tmp_path / "gate")
    with running_server(
        "--set",
        f"files.folder={tmp_path / 'o'}",
        *args,
        model="tests.plugins:blocked",
        env={"EMOTEST_BLOCK": str(gate.path)},
    ) as server:
        yield server, gate


@pytest.mark.parametrize("how", ["cancel", "abort"])
@pytest.mark.parametrize("stage", ["upload", "decode", "queue", "analysis"])
def test_it_can_end_at_any_stage_and_leaves_nothing(how: str, stage: str, tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 40 if stage == "decode" else 1))
    if stage == "decode":
        two = np.stack([np.tile(speech(), 200)] * 2, axis=1)  # equal to the end: it looks long
        path = record(tmp_path / "a.flac", two)

    async def session(server: Server, gate: Gate) -> None:
        async with contextlib.AsyncExitStack() as stack:
            first = None
            if stage in ("queue", "analysis"):
                gate.shut()
            if stage == "queue":
                first = await stack.enter_async_context(uploader(server))
                await send(first, path)
                await first.until("speech.start")
            client = await stack.enter_async_context(uploader(server))
            if stage == "upload":
                await client.say("file.begin", name="a.flac", size=1_000_000)
                await client.socket.send(b"x" * 1000)
                await client.until("file.progress")
            else:
                await send(client, path)
                wanted = {"queue": "file.log", "analysis": "speech.start"}.get(stage)
                await client.until(wanted or (lambda e: e.get("stage") == "decode"), timeout=30)
            if how == "cancel":
                await client.say("file.cancel")
                cancelled = await client.until("file.cancelled")
                assert cancelled["file_id"] == client.of("file.accepted")[0]["file_id"]
            else:
                await client.abort()
            if first is not None:
                assert client.of("file.log")[0]["code"] == "queued" or how == "abort"
                await first.say("file.cancel")
                await first.until("file.cancelled")
            gate.open()
            if how == "cancel":
                small = record(tmp_path / "small.mp3")
                done = await analysed(client, small)
                assert done["type"] == "file.done"
                shutil.rmtree(next((tmp_path / "o").glob("outputs_*")))

    with gated(tmp_path, "--set", "files.max_jobs=1") as (server, gate):
        run(session(server, gate), 90)
        _emptied(tmp_path / "o")
        assert server.metric("emotide_files_active") == 0
        assert server.metric("emotide_files_total", outcome="cancelled") >= 1
        children = subprocess.run(
            ["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False
        )
        assert not children.stdout, "a decoder lives on"


def test_many_at_once_have_folders_of_their_own_and_wait_their_turn(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp3")

    async def one(server: Server) -> Event:
        async with uploader(server) as client:
            return await analysed(client, path)

    async def all_of_them(server: Server) -> list[Event]:
        return await asyncio.gather(*(one(server) for _ in range(8)))

    with running_server("--set", f"files.folder={tmp_path / 'o'}") as server:
        done = run(all_of_them(server), 90)
        assert {event["type"] for event in done} == {"file.done"}
        assert len({event["files"][0]["url"] for event in done}) == 8
        assert len([*(tmp_path / "o").iterdir()]) == 8
        assert len({str(event["result"]["channels"]) for event in done}) == 1
        assert server.metric("emotide_files_total", outcome="done") == 8
        assert server.metric("emotide_file_audio_seconds_total") > 40


def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    async def session(server: Server) -> None:
        async with uploader(server):
            with pytest.raises(InvalidStatus, match="503"):
                async with uploader(server):
                    pass

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_clients=1"
    ) as server:
        run(session(server), 30)


def test_where_it_is_turned_off_there_is_nothing(tmp_path: Path) -> None:
    with running_server("--set", "files.enabled=false") as server:
        assert server.get("/v1/files")[0] == 404
        assert server.get("/v1/results/x/result.json")[0] == 404
        assert server.json("/v1/info")["privacy"]["recordings_kept_s"] == 0


def test_a_call_keeps_its_turn_beside_recordings(tmp_path: Path) -> None:
    """A batch holds one window of each: a call waits for one batch more, never for a file."""
    path = record(tmp_path / "a.flac", np.tile(speech(), 30))

    async def latencies(server: Server, files: int) -> list[int]:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(files):
                client = await stack.enter_async_context(uploader(server))
                await send(client, path)
                await client.until("emotion.score", timeout=30)
            call = await stack.enter_async_context(stream(server))
            await call.audio(talk(8.0), pace_s=0.1)
            closed = await call.close_session()
            assert closed["totals"]["dropped_ms"] == 0
            return [event["latency_ms"] for event in call.of("emotion.score")]

    with running_server(
        "--set",
        f"files.folder={tmp_path / 'o'}",
        model="tests.plugins:slow",
        env={"EMOTEST_SLEEP_S": "0.1"},
    ) as server:
        alone = run(latencies(server, 0), 60)
        beside = run(latencies(server, 2), 90)
    assert statistics.median(beside) < statistics.median(alone) + 250


def test_a_server_that_goes_tells_its_uploaders(tmp_path: Path) -> None:
    """It once left half a result behind, when it was gone before the connection's own clean-up."""

    async def session(server: Server, gate: Gate) -> None:
        async with uploader(server) as client:
            gate.shut()
            await send(client, record(tmp_path / "a.wav"))
            await client.until("speech.start", timeout=30)
            server.signal()
            assert await client.closed(15) == 1012
            assert client.events[-1]["code"] == "draining"
            gate.open()

    with gated(tmp_path) as (server, gate):
        run(session(server, gate), 60)
        assert server.exit(15) == 0
        _emptied(tmp_path / "o")


# -- the disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["upload", "analysis"])
def test_a_full_disk_is_told_and_leaves_no_halves(stage: str, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the disk: the write fails as it does on one that is full."""
    room = 140_000 if stage == "upload" else 160_000
    script = (
        "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, '.');"
        "runpy.run_path('server.py', run_name='__main__')"
    )

    async def session(server: Server) -> None:
        async with uploader(server) as client:
            path = record(tmp_path / ("a.wav" if stage == "upload" else "a.mp3"))
            told = await analysed(client, path)
            assert (told["type"], told.get("code")) == ("error", "disk_full")
            assert told["retryable"]
            stages = [event["stage"] for event in client.of("file.progress")]
            assert stages[-1] == stage
            short = record(tmp_path / "short.mp3", speech()[: 4 * RATE])
            assert (await analysed(client, short))["type"] == "file.done"

    out = tmp_path / "o"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", script, "server.py", "--port", "0"),
            *("--model", "tests.plugins:fast", "--set", f"files.folder={out}"),
        ],
        cwd=Path(__file__).parents[2],
        env={key: value for key, value in os.environ.items() if not key.startswith("EMOT")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    try:
        server.url = server.line("ready")["url"]
        server.port = int(server.url.rstrip("/").rpartition(":")[2])
        run(session(server), 60)
        assert len([*out.iterdir()]) == 1
        server.line("a result cannot be written")
    finally:
        process.kill()
        server.exit()
        assert process.stderr is not None
        process.stderr.close()


def test_results_end_and_leftovers_go_but_nothing_of_others(tmp_path: Path) -> None:
    out = tmp_path / "o"
    theirs = out / "outputs_20200101_000000"
    theirs.mkdir(parents=True)
    (theirs / "result.json").write_text("{}")
    half = out / "outputs_20200101_000001"
    half.mkdir()
    (half / ".emotide").touch()
    (half / "processed_audio.wav").write_bytes(b"RIFF")
    linked = out / "outputs_20200101_000002"
    linked.mkdir()
    (linked / ".emotide").symlink_to(half / ".emotide")

    async def one(server: Server) -> Event:
        async with uploader(server) as client:
            return await analysed(client, record(tmp_path / "a.mp3"))

    with running_server("--set", f"files.folder={out}") as server:
        done = run(one(server), 60)
        assert not half.exists()
    with running_server("--set", f"files.folder={out}") as server:
        # Results outlive the process that made them.
        deadline = 50
        while server.get(done["files"][0]["url"])[0] != 200 and deadline:
            deadline -= 1
        assert fetch(server, done, "result.json")
    [marker] = [one for one in out.glob("*/.emotide") if not one.is_symlink()]
    record_ = orjson.loads(marker.read_bytes())
    marker.write_bytes(orjson.dumps({**record_, "expires": 1.0}))
    with running_server("--set", f"files.folder={out}") as server:
        server.line("a result was deleted")
        assert server.get(done["files"][0]["url"])[0] == 404
    assert sorted(p.name for p in out.iterdir()) == [theirs.name, linked.name]


# -- fetching ----------------------------------------------------------------------------------


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


def test_with_keys_it_takes_one_that_opens_files(tmp_path: Path) -> None:
    """Then the URL of a result is the right to it, as no player can send a key."""
    keys = (
        f'{{full = {{sha256 = "{DIGEST}", scopes = ["files"]}}, '
        f'listener = {{sha256 = "{LISTENERS_DIGEST}", scopes = ["subscribe"]}}}}'
    )

    async def session(server: Server) -> Event:
        for key, status in ((None, 401), (LISTENER, 403)):
            headers = {"Authorization": f"Bearer {key}"} if key else None
            with pytest.raises(InvalidStatus) as refused:
                async with uploader(server, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
        headers = {"Authorization": f"Bearer {FULL}"}
        async with uploader(server, additional_headers=headers) as client:
            return await analysed(client, record(tmp_path / "a.mp3"))

    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", f"auth.keys={keys}"
    ) as server:
        assert fetch(server, run(session(server), 60), "result.json")


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
