"""Analysis of recordings in this process, with the server's code."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

from client.batch.analyser import Analysis, AnalysisFailed, OnProgress
from stream.admission import check_detector
from stream.backends import registry
from stream.config import Config
from stream.delivery.hub import Hub
from stream.errors import ModelRefused
from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import Scheduler
from stream.printable import utf8
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.analysis import AnalysisBody
from stream.recordings.analysis import Progress, RecordingAnalysis
from stream.recordings.disk import DiskExecutor, disk_error
from stream.recordings.log import LogEntry
from stream.result_files import new_folder
from stream.services import Services
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import from_ms


class LocalAnalyser:
    """Analyser that runs the server's pipeline in this process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._services: Services | None = None
        self._disk = DiskExecutor()
        model = config.model
        engine = ThreadEngine(lambda: registry.load_for_recordings(model), model.max_batch)
        self._scheduler = Scheduler(engine, 0.0, model.hang_timeout_s)
        self.where = "this process (--local)"

    @property
    def model(self) -> str:
        model = self._services.model if self._services else None
        return f"{model.id}@{model.revision}" if model else ""

    async def open(self) -> None:
        """Load the model. Raises `ModelRefused`, `ConfigError`."""
        check_detector(self._config.vad)
        try:
            lengths = [from_ms(ms) for ms in self._config.windows.lengths_ms or ()]
            model = await self._scheduler.start(lengths)
        except ModelRefused:
            raise
        except Exception as error:
            raise ModelRefused(f"model {self._config.model.name} cannot run: {error}") from error
        self._services = Services(
            self._config, model, self._scheduler, Hub(), Metrics("local"), AuditLog(None)
        )

    async def close(self) -> None:
        await self._scheduler.stop(5)
        self._disk.close()

    async def analyse(
        self, path: Path, options: FileOptions, out: Path, on_progress: OnProgress
    ) -> Analysis:
        """Analyse one recording into a new folder in `out`. Raises `AnalysisFailed`."""
        assert self._services is not None
        progress = Progress(since=time.monotonic())
        observer = _Observer(progress, on_progress)
        analysis = RecordingAnalysis(self._services, self._disk, options, observer, progress)
        folder: Path | None = None
        try:
            if not (await asyncio.to_thread(path.stat)).st_size:
                raise AnalysisFailed("empty_file", "the file is empty")
            folder = await asyncio.to_thread(new_folder, out, time.time())
            result, _ = await analysis.run(path, utf8(path.name), folder)
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, ProtocolError):
                raise AnalysisFailed(error.code, error.message) from None
            if isinstance(error, OSError):
                failure = disk_error(error)
                text = "the disk is full" if failure.code == "disk_full" else str(error)
                raise AnalysisFailed(failure.code, text) from None
            raise
        return Analysis(folder, result, tuple(observer.warnings))


class _Observer:
    """Collects the warnings of one analysis and passes its progress on."""

    def __init__(self, progress: Progress, on_progress: OnProgress) -> None:
        self._progress = progress
        self._on_progress = on_progress
        self.warnings: list[str] = []

    def log(self, entry: LogEntry) -> None:
        if entry.level == "warning":
            self.warnings.append(entry.message)

    def event(self, body: AnalysisBody) -> None:
        pass

    def stage(self) -> None:
        self._on_progress(self._progress.stage, 0.0)

    async def throttle(self) -> None:
        self._on_progress(self._progress.stage, self._progress.share)
        await asyncio.sleep(0)


def local_config(model: str, device: str | None, config: Config | None = None) -> Config:
    """Return a configuration with up to 8 threads and larger limits on recordings.

    `config` is that of a server, by default its defaults. A `device` of None is left as it is.
    """
    config = config or Config()
    changed = {"name": model, "threads": min(8, os.cpu_count() or 1)}
    if device is not None:
        changed["device"] = device
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=changed),
            "files": config.files.model_copy(update={"max_mb": 100_000, "max_minutes": 1_440}),
        }
    )
