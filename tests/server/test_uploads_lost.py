"""Recordings that are cancelled or lost, concurrent recordings, a full disk, expiry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import orjson
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.audio_files import record
from tests.support.clients import stream
from tests.support.posting import wait_for
from tests.support.running import Event, Gate, Server, running_server
from tests.support.uploading import analyse, fetch, upload, uploader, wait_until_empty
from tests.support.utterances import RATE, speech, talk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server("--set", f"files.folder={folder}") as server:
        yield server


@contextlib.contextmanager
def gated(tmp_path: Path, *args: str) -> Iterator[tuple[Server, Gate]]:
    """Start a server whose model waits while the gate is shut."""
    gate = Gate(tmp_path / "gate")
    with running_server(
        "--set",
        f"files.folder={tmp_path / 'o'}",
        *args,
        model="tests.support.plugins:blocked",
        env={"EMOTEST_BLOCK": str(gate.path)},
    ) as server:
        yield server, gate


@pytest.mark.parametrize("how", ["cancel", "abort"])
@pytest.mark.parametrize("stage", ["upload", "decode", "queue", "analysis"])
async def test_a_recording_ended_at_any_stage_is_removed(
    how: str, stage: str, tmp_path: Path
) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 40 if stage == "decode" else 1))
    if stage == "decode":
        # The comparison of two equal channels reads the whole file.
        two = np.stack([np.tile(speech(), 200)] * 2, axis=1)
        path = record(tmp_path / "a.flac", two)

    with gated(tmp_path, "--set", "files.max_jobs=1") as (server, gate):
        async with contextlib.AsyncExitStack() as stack:
            first = None
            if stage in ("queue", "analysis"):
                gate.shut()
            if stage == "queue":
                first = await stack.enter_async_context(uploader(server))
                await upload(first, path)
                await first.until("speech.start")
            client = await stack.enter_async_context(uploader(server))
            if stage == "upload":
                await client.send("file.begin", name="a.flac", size=1_000_000)
                await client.socket.send(b"x" * 1000)
                await client.until("file.progress")
            else:
                await upload(client, path)
                wanted = {"queue": "file.log", "analysis": "speech.start"}.get(stage)
                await client.until(wanted or (lambda e: e.get("stage") == "decode"))

            if how == "cancel":
                await client.send("file.cancel")
                cancelled = await client.until("file.cancelled")
                assert cancelled["file_id"] == client.of("file.accepted")[0]["file_id"]
            else:
                await client.abort()

            if first is not None:
                assert client.of("file.log")[0]["code"] == "queued" or how == "abort"
                await first.send("file.cancel")
                await first.until("file.cancelled")

            gate.open()
            if how == "cancel":
                small = record(tmp_path / "small.mp3")
                done = await analyse(client, small)
                assert done["type"] == "file.done"
                shutil.rmtree(next((tmp_path / "o").glob("outputs_*")))

        wait_until_empty(tmp_path / "o")
        wait_for(lambda: server.metric("emotide_files_active") == 0)
        assert server.metric("emotide_files_total", outcome="cancelled") >= 1
        # No decoder process is left.
        wait_for(lambda: not psutil.Process(server.process.pid).children())


async def test_concurrent_recordings_have_separate_folders(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp3")

    async def one(server: Server) -> Event:
        async with uploader(server) as client:
            return await analyse(client, path)

    with running_server("--set", f"files.folder={tmp_path / 'o'}") as server:
        done = await asyncio.gather(*(one(server) for _ in range(8)))

        assert {event["type"] for event in done} == {"file.done"}
        assert len({event["files"][0]["url"] for event in done}) == 8
        assert len([*(tmp_path / "o").iterdir()]) == 8
        assert len({str(event["result"]["channels"]) for event in done}) == 1
        assert server.metric("emotide_files_total", outcome="done") == 8
        assert server.metric("emotide_file_audio_seconds_total") > 40


async def test_connections_above_max_clients_are_refused(tmp_path: Path) -> None:
    with running_server(
        "--set", f"files.folder={tmp_path / 'o'}", "--set", "files.max_clients=1"
    ) as server:
        async with uploader(server):
            with pytest.raises(InvalidStatus, match="503"):
                async with uploader(server):
                    pass


def test_paths_of_recordings_are_not_found_when_disabled(tmp_path: Path) -> None:
    with running_server("--set", "files.enabled=false") as server:
        assert server.get("/v1/files")[0] == 404
        assert server.get("/v1/results/x/result.json")[0] == 404
        assert server.json("/v1/info")["privacy"]["recordings_kept_s"] == 0


async def test_recordings_delay_a_live_stream_by_at_most_one_batch(tmp_path: Path) -> None:
    """A batch has one window of each channel, so a live stream never waits for a whole file."""
    path = record(tmp_path / "a.flac", np.tile(speech(), 30))

    async def latencies(server: Server, files: int) -> list[int]:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(files):
                client = await stack.enter_async_context(uploader(server))
                await upload(client, path)
                await client.until("emotion.score")
            call = await stack.enter_async_context(stream(server))
            await call.audio(talk(8.0), pace_s=0.1)
            closed = await call.close_session()
            assert closed["totals"]["dropped_ms"] == 0
            return [event["latency_ms"] for event in call.of("emotion.score")]

    with running_server(
        "--set",
        f"files.folder={tmp_path / 'o'}",
        model="tests.support.plugins:slow",
        env={"EMOTEST_SLEEP_S": "0.1"},
    ) as server:
        alone = await latencies(server, 0)
        beside = await latencies(server, 2)
    assert statistics.median(beside) < statistics.median(alone) + 1000


async def test_a_drain_closes_uploads_and_removes_their_files(tmp_path: Path) -> None:
    """An incomplete result was left when the process exited before the connection's clean-up."""

    with gated(tmp_path) as (server, gate):
        async with uploader(server) as client:
            gate.shut()
            await upload(client, record(tmp_path / "a.wav"))
            await client.until("speech.start")
            server.signal()
            assert await client.closed() == 1012
            assert client.events[-1]["code"] == "draining"
            gate.open()
        assert server.exit() == 0
        wait_until_empty(tmp_path / "o")


# -- the disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["upload", "analysis"])
async def test_a_full_disk_is_reported_and_leaves_no_incomplete_result(
    stage: str, tmp_path: Path
) -> None:
    """RLIMIT_FSIZE simulates a full disk: writes fail in the same way."""
    limit = 140_000 if stage == "upload" else 160_000
    script = (
        "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, '.');"
        "runpy.run_path('server.py', run_name='__main__')"
    )

    out = tmp_path / "o"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", script, "server.py", "--port", "0"),
            *("--model", "tests.support.plugins:fast", "--set", f"files.folder={out}"),
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
        async with uploader(server) as client:
            path = record(tmp_path / ("a.wav" if stage == "upload" else "a.mp3"))
            error = await analyse(client, path)
            assert (error["type"], error.get("code")) == ("error", "disk_full")
            assert error["retryable"]
            stages = [event["stage"] for event in client.of("file.progress")]
            assert stages[-1] == stage
            short = record(tmp_path / "short.mp3", speech()[: 4 * RATE])
            assert (await analyse(client, short))["type"] == "file.done"
        assert len([*out.iterdir()]) == 1
        server.line("result not written")
    finally:
        process.kill()
        server.exit()
        assert process.stderr is not None
        process.stderr.close()


async def test_a_result_is_deleted_after_the_configured_time(tmp_path: Path) -> None:
    out = tmp_path / "o"
    keep_s = 4.0

    with running_server(
        *("--set", f"files.folder={out}", "--set", f"files.keep_hours={keep_s / 3600}")
    ) as server:
        async with uploader(server) as client:
            assert client.events[0]["limits"]["keep_s"] == pytest.approx(keep_s)
            began = time.time()
            done = await analyse(client, record(tmp_path / "a.mp3"))
            ended = time.time()

        expires = datetime.fromisoformat(done["expires"]).timestamp()
        assert began - 1 < expires - keep_s < ended + 1
        url = done["files"][0]["url"]
        wait_for(lambda: server.get(url)[0] != 200)
        assert server.get(url)[0] == 404
        assert time.time() > expires - 1
        wait_until_empty(out)


async def test_expired_and_abandoned_results_are_deleted_and_other_folders_are_not(
    tmp_path: Path,
) -> None:
    out = tmp_path / "o"
    foreign = out / "outputs_20200101_000000"
    foreign.mkdir(parents=True)
    (foreign / "result.json").write_text("{}")
    abandoned = out / "outputs_20200101_000001"
    abandoned.mkdir()
    (abandoned / ".emotide").touch()
    (abandoned / "processed_audio.wav").write_bytes(b"RIFF")
    linked = out / "outputs_20200101_000002"
    linked.mkdir()
    (linked / ".emotide").symlink_to(abandoned / ".emotide")

    with running_server("--set", f"files.folder={out}") as server:
        async with uploader(server) as client:
            done = await analyse(client, record(tmp_path / "a.mp3"))
        wait_for(lambda: not abandoned.exists())

    with running_server("--set", f"files.folder={out}") as server:
        # Results outlive the process that wrote them.
        wait_for(lambda: server.get(done["files"][0]["url"])[0] == 200)
        assert fetch(server, done, "result.json")

    [marker] = [path for path in out.glob("*/.emotide") if not path.is_symlink()]
    stored = orjson.loads(marker.read_bytes())
    marker.write_bytes(orjson.dumps({**stored, "expires": 1.0}))
    with running_server("--set", f"files.folder={out}") as server:
        server.line("result deleted")
        assert server.get(done["files"][0]["url"])[0] == 404
    assert sorted(p.name for p in out.iterdir()) == [foreign.name, linked.name]
