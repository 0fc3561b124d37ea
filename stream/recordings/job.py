"""One recording from its last byte to its result: its turn, the analysis, what is kept."""

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
from stream.recordings.analysis import Observers, Progress, RecordingAnalysis
from stream.recordings.disk import DiskExecutor, disk_trouble
from stream.recordings.job_queue import JobQueue
from stream.recordings.log import LogEntry, queued
from stream.recordings.store import ResultStore
from stream.recordings.upload import Upload
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import Body, ModelInfo

log = logging.getLogger(__name__)

TICK_S = 0.4
"""Progress is told at least twice a second, and how many are ahead whenever that changes."""


@dataclass(frozen=True, slots=True)
class RecordingServices:
    """What all connections on /v1/files share."""

    config: Config
    model: ModelInfo
    scheduler: Scheduler
    metrics: Metrics
    audit: AuditLog
    store: ResultStore
    disk: DiskExecutor
    turns: JobQueue


class RecordingJob:
    """The analysis of one upload; `run` once.

    `say` takes what is told on the way, `stage` is called when the stage changes, and `breath` is
    awaited now and then, so that a slow reader slows the analysis and nothing else. The result is
    `owner`'s, the name of a key; "" where there are none.
    """

    def __init__(
        self,
        services: RecordingServices,
        upload: Upload,
        progress: Progress,
        owner: str,
        say: Callable[[Body], None],
        stage: Callable[[], None],
        throttle: Callable[[], Awaitable[None]],
    ) -> None:
        self._services = services
        self._upload = upload
        self._progress = progress
        self._owner = owner
        self._say = say
        self._stage = stage
        self._throttle = throttle

    async def run(self) -> Body:
        """The body of `file.done`. Raises `ProtocolError`, never fatal, that names the file."""
        upload, ticket = self._upload, self._services.turns.enter()
        outcome = "failed"
        try:
            await upload.close()
            await self._turn(ticket)
            body = await self._analyse()
            outcome = "done"
            return body
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except ProtocolError as error:
            raise upload.about(error) from None
        except OSError as error:
            log.error("a result cannot be written", extra={"reason": str(error)})
            raise upload.about(disk_trouble(error)) from None
        except Exception:
            log.exception("a recording failed", extra={"file_id": upload.id})
            fault = ProtocolError("internal_error", "something went wrong here", fatal=False)
            raise upload.about(fault) from None
        finally:
            self._services.turns.leave(ticket)
            log.info("recording ended", extra={"file_id": upload.id, "outcome": outcome})

    async def _turn(self, ticket: asyncio.Future[None]) -> None:
        told = 0
        while not ticket.done():
            ahead = self._services.turns.ahead(ticket)
            if ahead != told:
                told = ahead
                self._note(queued(ahead))
            await asyncio.wait({ticket}, timeout=TICK_S)

    async def _analyse(self) -> Body:
        services, upload = self._services, self._upload
        recorded = RecordingAnalysis(
            services.config,
            upload.begin.options,
            services.model,
            services.scheduler,
            services.metrics,
            services.disk,
            Observers(
                note=self._note,
                event=lambda body: self._say({**body, "file_id": upload.id}),
                stage=self._stage,
                throttle=self._throttle,
            ),
            self._progress,
        )
        began = time.monotonic()
        result, names = await recorded.run(upload.path, upload.begin.name, upload.draft.folder)
        await services.disk.run(upload.path.unlink)
        sizes = await services.disk.run(_sizes, upload.draft.folder, names)
        title = messages.title(upload.begin.name)
        kept = await services.disk.run(
            services.store.publish, upload.draft, names, title, self._owner
        )
        services.metrics.file_done(result["file"]["duration_s"], time.monotonic() - began)
        return messages.done(upload.id, result, kept, sizes)

    def _note(self, note: LogEntry) -> None:
        self._say(messages.logged(self._upload.id, note))


def _sizes(folder: Path, names: Sequence[str]) -> list[int]:
    return [(folder / name).stat().st_size for name in names]
