"""Recordings to results in this process, by the server's own code."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

from client.batch.analyst import Done, Tell, Unusable
from stream.admission import check_detector
from stream.backends import registry
from stream.config import Config
from stream.errors import ModelRefused
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import FileOptions
from stream.recordings.analysis import Observers, Progress, RecordingAnalysis
from stream.recordings.disk import DiskExecutor, disk_trouble
from stream.recordings.log import LogEntry
from stream.recordings.writer import new_folder
from stream.telemetry.metrics import Metrics
from stream.types import ModelInfo, from_ms


class LocalAnalyst:
    """The server's own pipeline in this process, for one batch."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._info: ModelInfo | None = None
        self._metrics = Metrics("local")
        self._disk = DiskExecutor()
        model = config.model
        self._scheduler = Scheduler(
            lambda: registry.configured(model),
            model.max_batch,
            0.0,
            model.hang_timeout_s,
        )
        self.where = "this process (--local)"

    @property
    def model(self) -> str:
        return f"{self._info.id}@{self._info.revision}" if self._info else ""

    async def open(self) -> None:
        """Load the model. Raises `ModelRefused`, `ConfigError`."""
        check_detector(self._config.vad)
        try:
            self._info = await self._scheduler.start(
                [from_ms(ms) for ms in self._config.windows.lengths_ms]
            )
        except ModelRefused:
            raise
        except Exception as error:
            raise ModelRefused(f"model {self._config.model.name} cannot run: {error}") from error

    async def close(self) -> None:
        await self._scheduler.stop(5)
        self._disk.close()

    async def analyse(self, path: Path, options: FileOptions, out: Path, tell: Tell) -> Done:
        assert self._info is not None
        notes: list[str] = []

        def keep(note: LogEntry) -> None:
            if note.level == "warning":
                notes.append(note.message)

        async def throttle() -> None:
            tell(progress.stage, progress.share)
            await asyncio.sleep(0)

        progress = Progress(since=time.monotonic())
        recorded = RecordingAnalysis(
            self._config,
            options,
            self._info,
            self._scheduler,
            self._metrics,
            self._disk,
            Observers(keep, lambda body: None, lambda: tell(progress.stage, 0.0), throttle),
            progress,
        )
        folder: Path | None = None
        try:
            if not (await asyncio.to_thread(path.stat)).st_size:
                raise Unusable("empty_file", "the file is empty")
            folder = await asyncio.to_thread(new_folder, out, time.time())
            result, _ = await recorded.run(path, path.name, folder)
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, ProtocolError):
                raise Unusable(error.code, error.message) from None
            if isinstance(error, OSError):
                trouble = disk_trouble(error)
                told = "the disk is full" if trouble.code == "disk_full" else str(error)
                raise Unusable(trouble.code, told) from None
            raise
        return Done(folder, result, tuple(notes))


def local_config(model: str, device: str) -> Config:
    """As a server's defaults, but with all cores, and without its bounds on uploads."""
    config = Config()
    threads = min(8, os.cpu_count() or 1)
    return config.model_copy(
        update={
            "model": config.model.model_copy(
                update={"name": model, "device": device, "threads": threads}
            ),
            "files": config.files.model_copy(update={"max_mb": 100_000, "max_minutes": 1_440}),
        }
    )
