"""Job of one recording: from the complete upload through queue and analysis to its result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.recordings import FileDoneBody
from stream.recordings import messages
from stream.recordings.analysis import Observer, Progress, RecordingAnalysis
from stream.recordings.job_queue import Ticket
from stream.recordings.log import queued
from stream.recordings.services import RecordingServices, write_failed
from stream.recordings.upload import Upload
from stream.tenants import Principal

log = logging.getLogger(__name__)

TICK_S = 0.4
"""Interval in seconds of progress messages, which are sent at least twice a second, and of checks
of the position in the queue."""


class RecordingJob:
    """The analysis of one upload; `run` once.

    `observer` gets the log, the events and the changes of stage. The result belongs to `principal`.
    """

    def __init__(
        self,
        services: RecordingServices,
        upload: Upload,
        options: FileOptions,
        progress: Progress,
        principal: Principal,
        observer: Observer,
    ) -> None:
        self._services = services
        self._upload = upload
        self._options = options
        self._progress = progress
        self._principal = principal
        self._observer = observer

    async def run(self) -> FileDoneBody:
        """Run to the end and return the body of `file.done`.

        Raises `ProtocolError`, never fatal, with the file's id.
        """
        upload, ticket = self._upload, self._services.queue.join(self._principal.tenant)
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
            raise upload.tag(write_failed(error)) from None
        except Exception:
            log.exception("recording failed", extra={"file_id": upload.log_id})
            fault = ProtocolError("internal_error", "internal server error; try again", fatal=False)
            raise upload.tag(fault) from None
        finally:
            self._services.queue.leave(ticket)
            log.info("recording ended", extra={"file_id": upload.log_id, "outcome": outcome})

    async def _wait(self, ticket: Ticket) -> None:
        last_sent = 0
        while not ticket.done():
            position = self._services.queue.position(ticket)
            if position != last_sent:
                last_sent = position
                self._observer.log(queued(position))
            await asyncio.wait({ticket}, timeout=TICK_S)

    async def _analyse(self) -> FileDoneBody:
        services, upload = self._services, self._upload
        analysis = RecordingAnalysis(
            services.shared,
            services.disk,
            self._options,
            self._observer,
            self._progress,
            self._principal.tenant,
        )
        began = time.monotonic()
        result, names = await analysis.run(upload.path, upload.name, upload.pending.folder)
        await services.disk.run(upload.path.unlink)
        sizes = await services.disk.run(_sizes, upload.pending.folder, names)
        title = messages.title(upload.name)
        stored = await services.disk.run(
            services.store.publish, upload.pending, names, title, self._principal.owner, upload.id
        )
        services.shared.metrics.file_done(result["file"]["duration_s"], time.monotonic() - began)
        services.finished(result, self._principal.tenant)
        return messages.done(upload.id, result, stored, sizes)


def _sizes(folder: Path, names: Sequence[str]) -> list[int]:
    return [(folder / name).stat().st_size for name in names]
