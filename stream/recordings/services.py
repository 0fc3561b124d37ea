"""Services that all recordings of one process share, and the start and end of every recording."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from stream.admission import admit_recording
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.result import Result
from stream.recordings.disk import DiskExecutor, disk_error
from stream.recordings.job_queue import JobQueue
from stream.recordings.store import ResultStore
from stream.recordings.upload import Upload
from stream.services import Services
from stream.tenants import Principal

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""Seconds that closed connections have, when the process ends, to remove what they uploaded."""


def _ignore(result: Result, tenant: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class RecordingServices:
    """Store, disk and queue of all recordings, however they arrive."""

    shared: Services
    store: ResultStore
    disk: DiskExecutor
    queue: JobQueue
    finished: Callable[[Result, str], None] = _ignore
    """Gets each result, without frames, and its tenant."""
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    """Tasks of connections that may own an upload."""

    def keep(self, task: asyncio.Task[None]) -> None:
        """Wait for a connection's task in `settle`."""
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def settle(self) -> None:
        """Wait for the connections, which are closed by now, before the disk is closed."""
        if self.connections:
            await asyncio.wait(self.connections, timeout=SETTLE_S)

    def admit(self, options: FileOptions) -> None:
        """Raise `ProtocolError`, never fatal, for options that this server refuses.

        The roles are compared with the channels again after decoding.
        """
        channels = max(1, len(options.roles))
        admit_recording(self.shared.config, options, self.shared.model, channels)

    async def open_upload(self, name: str, size: int | None) -> Upload:
        """Start an upload, and report it; `size` is None if the client does not announce it.

        End it with `drop`, or with a job. Raises `ProtocolError`.
        """
        max_mb = self.shared.config.files.max_mb
        try:
            upload = await Upload.open(name, size, max_mb, self.disk, self.store)
        except OSError as error:
            raise write_failed(error) from None
        self.shared.metrics.file_began()
        log.info("recording started", extra={"file_id": upload.log_id, "bytes": size})
        return upload

    def audit(self, upload: Upload, options: FileOptions, principal: Principal) -> None:
        """Record in the audit log that a recording is analysed."""
        self.shared.audit.record(
            "file.start",
            tenant=principal.tenant,
            key=principal.key or None,
            file_id=upload.log_id,
            bytes=upload.received if upload.size is None else upload.size,
            roles=options.roles,
            disclosed=options.disclosed,
        )

    async def drop(self, upload: Upload, outcome: str) -> None:
        """Remove an upload and its files. `outcome`: "cancelled", or the code of an error."""
        self.shared.metrics.file_ended(outcome)
        await upload.drop()


def write_failed(error: OSError) -> ProtocolError:
    """Log a write that failed; return the error for the client."""
    log.error("result not written", extra={"reason": str(error)})
    return disk_error(error)
