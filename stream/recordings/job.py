"""Job of one recording: from the complete upload through queue and analysis to its result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.config import Config
from stream.inference.scheduler import Scheduler
from stream.protocol.errors import ProtocolError
from stream.recordings import messages
from stream.recordings.analysis import Observer, Progress, RecordingAnalysis
from stream.recordings.disk import DiskExecutor, disk_error
from stream.recordings.job_queue import JobQueue
from stream.recordings.log import LogEntry, queued
from stream.recordings.store import ResultStore
from stream.recordings.upload import Upload
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import Body, ModelInfo

log = logging.getLogger(__name__)

TICK_S = 0.4
"""Interval in seconds of progress messages, which are sent at least twice a second, and of checks
of the position in the queue."""


@dataclass(frozen=True, slots=True)
class RecordingServices:
    """Services that all connections on /v1/files share."""

    config: Config
    model: ModelInfo
    scheduler: Scheduler
    metrics: Metrics
    audit: AuditLog
    store: ResultStore
    disk: DiskExecutor
    queue: JobQueue


class RecordingJob:
    """The analysis of one upload; `run` once.

    `send` receives the messages of the analysis. `stage` is called when the stage changes.
    `throttle` is awaited between pieces of audio, so that a slow client slows only its own
    analysis. `owner` is the name of the key to which the result belongs; "" without keys.
    """

    def __init__(
        self,
        services: RecordingServices,
        upload: Upload,
        progress: Progress,
        owner: str,
        send: Callable[[Body], None],
        stage: Callable[[], None],
        throttle: Callable[[], Awaitable[None]],
    ) -> None:
        self._services = services
        self._upload = upload
        self._progress = progress
        self._owner = owner
        self._send = send
        self._stage = stage
        self._throttle = throttle

    async def run(self) -> Body:
        """Run to the end and return the body of `file.done`.

        Raises `ProtocolError`, never fatal, with the file's id.
        """
        upload, ticket = self._upload, self._services.queue.join()
        outcome = "failed"
        try:
            await upload.close()
            await self._wait(ticket)
            body = await self._analyse()
            outcome = "done"
            return body
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except ProtocolError as error:
            raise upload.tag(error) from None
        except OSError as error:
            log.error("result not written", extra={"reason": str(error)})
            raise upload.tag(disk_error(error)) from None
        except Exception:
            log.exception("recording failed", extra={"file_id": upload.id})
            fault = ProtocolError("internal_error", "internal server error; try again", fatal=False)
            raise upload.tag(fault) from None
        finally:
            self._services.queue.leave(ticket)
            log.info("recording ended", extra={"file_id": upload.id, "outcome": outcome})

    async def _wait(self, ticket: asyncio.Future[None]) -> None:
        last_sent = 0
        while not ticket.done():
            position = self._services.queue.position(ticket)
            if position != last_sent:
                last_sent = position
                self._log(queued(position))
            await asyncio.wait({ticket}, timeout=TICK_S)

    async def _analyse(self) -> Body:
        services, upload = self._services, self._upload
        analysis = RecordingAnalysis(
            services.config,
            upload.begin.options,
            services.model,
            services.scheduler,
            services.metrics,
            services.disk,
            Observer(
                log=self._log,
                event=lambda body: self._send({**body, "file_id": upload.id}),
                stage=self._stage,
                throttle=self._throttle,
            ),
            self._progress,
        )
        began = time.monotonic()
        result, names = await analysis.run(upload.path, upload.begin.name, upload.pending.folder)
        await services.disk.run(upload.path.unlink)
        sizes = await services.disk.run(_sizes, upload.pending.folder, names)
        title = messages.title(upload.begin.name)
        stored = await services.disk.run(
            services.store.publish, upload.pending, names, title, self._owner
        )
        services.metrics.file_done(result["file"]["duration_s"], time.monotonic() - began)
        return messages.done(upload.id, result, stored, sizes)

    def _log(self, entry: LogEntry) -> None:
        self._send(messages.logged(self._upload.id, entry))


def _sizes(folder: Path, names: Sequence[str]) -> list[int]:
    return [(folder / name).stat().st_size for name in names]
