"""The periodic removal of expired results."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import cast

import pytest

from stream.config import Config
from stream.delivery.hub import Hub
from stream.inference.scheduler import Scheduler
from stream.recordings import sweep
from stream.recordings.background import BackgroundJobs
from stream.recordings.disk import DiskExecutor
from stream.recordings.job_queue import JobQueue
from stream.recordings.services import RecordingServices
from stream.recordings.store import ResultStore
from stream.services import Services
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from tests.support.plugins import Fast
from tests.support.scheduling import until


async def test_a_sweep_that_fails_is_logged_and_the_next_one_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A result that cannot be deleted must not end live streams."""
    monkeypatch.setattr(sweep, "SWEEP_S", 0.01)
    root = tmp_path / "results"
    root.write_bytes(b"no folder")
    store, disk = ResultStore(root, keep_s=0), DiskExecutor()
    shared = Services(
        Config.model_validate({"files": {"folder": root}}),
        Fast().info,
        cast(Scheduler, None),
        cast(Hub, None),
        Metrics("test"),
        AuditLog(None),
    )
    jobs = BackgroundJobs(RecordingServices(shared, store, disk, JobQueue(1)))
    sweeping = asyncio.create_task(sweep.keep_swept(jobs))
    try:
        await until(lambda: "expired results not deleted" in caplog.messages)
        root.unlink()
        root.mkdir()
        pending = await disk.run(store.begin)
        assert pending.folder.exists(), "it is pending, so it stays"
        await disk.run(store.publish, pending, [], "call")
        await until(lambda: not pending.folder.exists())
        assert not sweeping.done()
    finally:
        sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping
        disk.close()
