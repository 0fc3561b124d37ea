"""Recordings without a connection: states, results, cancellation, expiry, bounds, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from stream.config import Config
from stream.delivery.hub import Hub
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.recordings import FileDoneBody
from stream.recordings import background
from stream.recordings.analysis import Observer, Progress
from stream.recordings.background import BackgroundJob, BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.log import queued
from stream.recordings.messages import done
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
from stream.recordings.upload import Upload
from stream.services import Services
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.tenants import ANYONE, Principal
from stream.types import Body
from tests.support.plugins import Fast

BEGUN: list[FakeWork] = []


class FakeWork:
    """The work of a job, ended by the test; see `RecordingJob`."""

    def __init__(
        self,
        services: RecordingServices,
        upload: Upload,
        options: FileOptions,
        progress: Progress,
        principal: Principal,
        observer: Observer,
    ) -> None:
        self.services, self.upload, self.owner = services, upload, principal.owner
        self.progress, self.observer = progress, observer
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        BEGUN.append(self)

    async def run(self) -> FileDoneBody:
        await self.upload.close()
        result = await self.outcome
        await self.services.disk.run(self.upload.path.rename, self.upload.pending.folder / "x")
        stored = await self.services.disk.run(
            self.services.store.publish, self.upload.pending, [], "call", self.owner
        )
        return done(self.upload.id, result, stored, [])


class Setup:
    """Background jobs with a real store, and their metrics."""

    def __init__(self, root: Path, **files: Any) -> None:
        self.root = root
        self.metrics = Metrics("test")
        self.disk = DiskExecutor()
        config = Config.model_validate({"files": {"folder": root, **files}})
        shared = Services(
            config,
            Fast().info,
            cast(Scheduler, None),
            cast(Hub, None),
            self.metrics,
            AuditLog(None),
        )
        store = ResultStore(root, config.files.keep_hours * 3600)
        self.jobs = BackgroundJobs(RecordingServices(shared, store, self.disk, JobQueue(2)))

    async def start(self, key: str = "") -> BackgroundJob:
        async with self.jobs.receive(Principal(key)) as reception:
            await reception.open("a.wav", None)
            await reception.write(b"audio")
            reception.check_complete()
            job = self.jobs.start(reception, FileOptions())
        await asyncio.sleep(0)
        return job

    async def end(self, job: BackgroundJob, result: Body | None = None) -> None:
        BEGUN[-1].outcome.set_result(result or {"schema": "x"})
        await job.ended.wait()

    def outcome(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value("emotide_files_total", {"outcome": name})

    @property
    def folders(self) -> int:
        return len([*self.root.iterdir()])


Make = Callable[..., Setup]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(background, "RecordingJob", FakeWork)
    BEGUN.clear()
    made: list[Setup] = []

    def new(**files: Any) -> Setup:
        made.append(Setup(tmp_path / "o", **files))
        return made[-1]

    yield new
    for setup in made:
        await setup.jobs.close(ProtocolError("draining", "the test ends"))
        setup.disk.close()


@pytest.fixture
def setup(make: Make) -> Setup:
    return make()


def decoded(body: Body) -> Any:
    """Return a body as a client gets it."""
    return orjson.loads(orjson.dumps(body))


async def test_a_job_is_queued_then_running_then_done(setup: Setup) -> None:
    job = await setup.start()
    assert setup.jobs.find(job.id, ANYONE) is job
    body = decoded(job.body())
    assert (body["status"], body["name"]) == ("queued", "a.wav")
    assert body["url"] == f"/v1/files/{job.id}"
    assert body["progress"] == {"stage": "upload", "share": 1.0}
    assert not {"result", "expires", "error"} & body.keys()

    BEGUN[0].progress.enter("decode")
    BEGUN[0].observer.stage()
    body = decoded(job.body())
    assert (body["status"], body["progress"]["stage"]) == ("running", "decode")

    await setup.end(job, {"schema": "x", "channels": [1, 2]})
    body = decoded(job.body())
    assert (body["status"], body["result"]) == ("done", {"schema": "x", "channels": [1, 2]})
    assert body["files"] == []
    assert body["progress"]["share"] == 1.0
    assert time.time() + 24 * 3600 == pytest.approx(job.expires, abs=5)
    assert setup.outcome("done") == 1
    assert setup.jobs.holders() == []
    assert setup.folders == 1


async def test_a_job_that_fails_has_its_error_and_no_files(setup: Setup) -> None:
    job = await setup.start()
    error = ProtocolError("not_audio", "choose audio", fatal=False, values={"reason": "cut_off"})
    BEGUN[0].outcome.set_exception(error)
    await job.ended.wait()
    body = decoded(job.body())
    assert (body["status"], body["error"], body["code"]) == ("failed", "choose audio", "not_audio")
    assert (body["retryable"], body["values"]) == (False, {"reason": "cut_off"})
    assert not {"type", "fatal", "message", "result"} & body.keys()
    assert "expires" in body
    assert setup.outcome("not_audio") == 1
    assert setup.folders == 0


async def test_a_cancelled_job_keeps_its_record_and_no_files(setup: Setup) -> None:
    job = await setup.start()
    await asyncio.gather(setup.jobs.cancel(job), setup.jobs.cancel(job))
    assert (job.status, decoded(job.body())["code"]) == ("cancelled", "cancelled")
    assert (setup.outcome("cancelled"), setup.folders, setup.jobs.holders()) == (1, 0, [])
    assert setup.jobs.find(job.id, ANYONE) is job
    await setup.jobs.remove(job)
    assert setup.jobs.find(job.id, ANYONE) is None


@pytest.mark.parametrize("ended", [False, True])
async def test_a_removed_job_leaves_nothing(setup: Setup, ended: bool) -> None:
    job = await setup.start()
    if ended:
        await setup.end(job)
    await asyncio.gather(setup.jobs.remove(job), setup.jobs.remove(job))
    assert setup.jobs.find(job.id, ANYONE) is None
    assert setup.folders == 0
    assert setup.outcome("done" if ended else "cancelled") == 1
    assert setup.jobs._kept_bytes == 0


async def test_a_job_is_found_with_its_key_only(setup: Setup) -> None:
    job = await setup.start("alice")
    assert setup.jobs.find(job.id, Principal("alice")) is job
    assert setup.jobs.find(job.id, Principal("bob")) is None
    assert setup.jobs.find(job.id, ANYONE) is None
    assert setup.jobs.find("file_0", Principal("alice")) is None
    await setup.end(job)
    assert setup.jobs.find(job.id, Principal("alice")) is job
    assert setup.jobs.find(job.id, Principal("bob")) is None


async def test_a_record_expires_with_its_result(make: Make) -> None:
    setup = make(keep_hours=0.2 / 3600)
    job = await setup.start()
    await setup.end(job)
    assert setup.jobs.find(job.id, ANYONE) is job
    await asyncio.sleep(0.3)
    assert setup.jobs.find(job.id, ANYONE) is None


async def test_records_that_ended_are_bounded(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_RECORDS", 2)
    unfinished = await setup.start()
    ended = []
    for _ in range(3):
        ended.append(await setup.start())
        await setup.end(ended[-1])
    found = [setup.jobs.find(job.id, ANYONE) is not None for job in (unfinished, *ended)]
    assert found == [True, False, True, True], "the oldest that ended is dropped"
    assert setup.folders == 4, "its result remains until it expires"


async def test_results_in_memory_are_bounded(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_BYTES", 2_000)
    jobs = []
    for size in (900, 900, 900, 10):
        jobs.append(await setup.start())
        await setup.end(jobs[-1], {"schema": "x" * size})
    assert [setup.jobs.find(job.id, ANYONE) is not None for job in jobs] == [
        False,
        True,
        True,
        True,
    ]
    assert 1_800 < setup.jobs._kept_bytes < 2_000


async def test_the_log_of_a_job_is_bounded(setup: Setup) -> None:
    job = await setup.start()
    for ahead in range(background.MAX_LOG + 5):
        BEGUN[0].observer.log(queued(ahead))
    log = decoded(job.body())["log"]
    assert len(log) == background.MAX_LOG
    assert log[-1]["values"] == {"ahead": background.MAX_LOG + 4}
    assert log[-1].keys() == {"level", "code", "message", "values"}


async def test_an_upload_that_fails_leaves_nothing(setup: Setup) -> None:
    async def upload() -> None:
        async with setup.jobs.receive(ANYONE) as reception:
            await reception.open("a.wav", None)
            await reception.write(b"x")
            assert setup.jobs.holders() == [ANYONE]
            raise ProtocolError("idle_timeout", "too slow")

    with pytest.raises(ProtocolError, match="too slow"):
        await upload()
    assert (setup.outcome("idle_timeout"), setup.folders, setup.jobs.holders()) == (1, 0, [])


async def test_a_cancelled_upload_leaves_nothing(setup: Setup) -> None:
    opened = asyncio.Event()

    async def upload() -> None:
        async with setup.jobs.receive(ANYONE) as reception:
            await reception.open("a.wav", None)
            opened.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(upload())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (setup.outcome("cancelled"), setup.folders, setup.jobs.holders()) == (1, 0, [])


async def test_a_write_that_fails_has_the_code_of_the_disk(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: Upload, data: bytes) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(Upload, "write", full)

    async def upload() -> None:
        async with setup.jobs.receive(ANYONE) as reception:
            await reception.open("a.wav", None)
            await reception.write(b"x")

    with pytest.raises(ProtocolError) as failed:
        await upload()
    assert failed.value.code == "disk_full"
    assert (setup.outcome("disk_full"), setup.folders) == (1, 0)


async def test_close_ends_uploads_and_jobs_and_removes_their_files(setup: Setup) -> None:
    job, finished = await setup.start(), await setup.start()
    await setup.end(finished)
    opened = asyncio.Event()

    async def upload() -> None:
        async with setup.jobs.receive(ANYONE) as reception:
            await reception.open("a.wav", None)
            opened.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(upload())
    await opened.wait()
    draining = ProtocolError("draining", "shutting down", retry_after_s=1.0)
    await asyncio.wait_for(setup.jobs.close(draining), 2)
    assert (job.status, job.error) == ("cancelled", draining)
    assert (finished.status, finished.error) == ("done", None)
    with pytest.raises(ProtocolError, match="shutting down"):
        await task
    assert setup.folders == 1, "the result that was complete remains"
    assert setup.outcome("draining") == 2
    with pytest.raises(ProtocolError, match="shutting down"):
        await setup.start()
    assert (setup.folders, setup.jobs.holders()) == (1, [])
