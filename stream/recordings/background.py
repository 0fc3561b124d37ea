"""Recordings that are analysed without a connection: their uploads, jobs, results and records."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Literal

import orjson

from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.analysis import AnalysisBody
from stream.protocol.wire.recordings import FileDoneBody
from stream.recordings import messages
from stream.recordings.analysis import Progress
from stream.recordings.job import RecordingJob
from stream.recordings.log import LogEntry
from stream.recordings.services import RecordingServices, write_failed
from stream.recordings.upload import Upload
from stream.tenants import Principal
from stream.types import Body, timestamp

MAX_RECORDS = 1_000
"""Number of recordings that ended whose records are kept; of more, the oldest are dropped."""

MAX_BYTES = 64_000_000
"""Bytes of results in the records that are kept; of more, the oldest records are dropped."""

MAX_LOG = 100
"""Number of newest log entries of a recording that are kept."""

CLOSE_S = 5.0
"""Seconds in which uploads have to end when the process drains."""

Status = Literal["queued", "running", "done", "failed", "cancelled"]


class BackgroundJob:
    """One recording, from its complete upload until its record expires; see `Observer`.

    `principal` sent it. `expires` is Unix time.
    """

    def __init__(self, upload: Upload, principal: Principal) -> None:
        self.id = upload.id
        self.name = upload.name
        self.principal = principal
        self.status: Status = "queued"
        self.progress = Progress(share=1.0, since=time.monotonic())
        self.entries: deque[LogEntry] = deque(maxlen=MAX_LOG)
        self.error: ProtocolError | None = None
        self.expires = 0.0
        self.size = 0
        """Bytes of the result in memory."""
        self.upload = upload
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None]
        self.stopping = False
        self._result: dict[str, orjson.Fragment] = {}

    def body(self) -> Body:
        """Return the state of the recording, for `orjson`: with the result, or with the error."""
        body: Body = {
            "file_id": self.id,
            "name": self.name,
            "status": self.status,
            "url": f"/v1/files/{self.id}",
            "progress": self.progress.body(),
            "log": [messages.log_fields(entry) for entry in self.entries],
        }
        if self.ended.is_set():
            body["expires"] = timestamp(self.expires)
        if self.error is not None:
            body |= messages.failure(self.error)
        return body | self._result

    def keep(self, done: FileDoneBody) -> None:
        """Keep the fields of `file.done`, as JSON, which needs less memory than objects."""
        kept = {"result": done["result"], "files": done["files"], "expires": done["expires"]}
        encoded = {key: orjson.dumps(value) for key, value in kept.items()}
        self.size = sum(map(len, encoded.values()))
        self._result = {key: orjson.Fragment(data) for key, data in encoded.items()}
        self.progress.share = 1.0

    # -- see `recordings.analysis.Observer` ----------------------------------------------------

    def log(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def event(self, body: AnalysisBody) -> None:
        pass

    def stage(self) -> None:
        self.status = "running"

    async def throttle(self) -> None:
        await asyncio.sleep(0)


class Reception:
    """Upload for a background job; it ends early when the process drains."""

    def __init__(self, services: RecordingServices, principal: Principal) -> None:
        self._services = services
        self.principal = principal
        self.limit = asyncio.timeout(None)
        self.upload: Upload | None = None
        self.ended = asyncio.Event()

    async def open(self, name: str, size: int | None) -> None:
        """Create the file. Raises `ProtocolError`."""
        self.upload = await self._services.open_upload(name, size)

    async def write(self, data: bytes) -> None:
        """Write the next bytes of the file. Raises `ProtocolError`."""
        assert self.upload is not None
        try:
            await self.upload.write(data)
        except OSError as error:
            raise self.upload.tag(write_failed(error)) from None

    def check_complete(self) -> None:
        """Raise `ProtocolError` if bytes are missing, or if there are none."""
        assert self.upload is not None
        self.upload.check_complete()

    def interrupt(self) -> None:
        """End the upload with `TimeoutError`, unless it has ended."""
        with suppress(RuntimeError):
            self.limit.reschedule(0)

    async def drop(self, outcome: str) -> None:
        """Remove what was received, unless a job has it."""
        upload, self.upload = self.upload, None
        if upload is not None:
            await self._services.drop(upload, outcome)


class BackgroundJobs:
    """All recordings of one process that no connection waits for."""

    def __init__(self, services: RecordingServices) -> None:
        self.services = services
        self._receptions: set[Reception] = set()
        self._active: dict[str, BackgroundJob] = {}
        self._ended: dict[str, BackgroundJob] = {}
        """In the order of their end, which is that of their expiry."""
        self._kept_bytes = 0
        self.closed: ProtocolError | None = None
        """Error for new recordings, set when the process drains."""

    def holders(self) -> list[Principal]:
        """Return who sends each of the recordings that are received, wait or are analysed."""
        receiving = [reception.principal for reception in self._receptions]
        return receiving + [job.principal for job in self._active.values()]

    @asynccontextmanager
    async def receive(self, principal: Principal) -> AsyncIterator[Reception]:
        """Count an upload as unfinished; remove its files unless `start` was called.

        Raises the `ProtocolError` of `close` if the process drains meanwhile.
        """
        reception = Reception(self.services, principal)
        self._receptions.add(reception)
        try:
            try:
                async with reception.limit:
                    yield reception
            except TimeoutError:
                assert self.closed is not None
                raise self.closed from None
        except BaseException as error:
            await reception.drop(error.code if isinstance(error, ProtocolError) else "cancelled")
            raise
        finally:
            self._receptions.discard(reception)
            reception.ended.set()

    def start(self, reception: Reception, options: FileOptions) -> BackgroundJob:
        """Start the job of a complete upload. Raises `ProtocolError` if the process drains."""
        if self.closed is not None:
            raise self.closed
        upload, reception.upload = reception.upload, None
        assert upload is not None
        principal = reception.principal
        self.services.audit(upload, options, principal)
        job = BackgroundJob(upload, principal)
        self._active[job.id] = job
        job.task = asyncio.create_task(self._run(job, options), name=f"job[{job.id}]")
        return job

    def find(self, file_id: str, principal: Principal) -> BackgroundJob | None:
        """Return a recording; None if it is unknown, expired, or sent with another key."""
        self.sweep()
        job = self._active.get(file_id) or self._ended.get(file_id)
        return job if job is not None and principal.owns(job.principal.owner) else None

    async def cancel(self, job: BackgroundJob) -> None:
        """Cancel the recording if it has not ended, and remove its files. Its record remains."""
        if job.ended.is_set():
            return
        if not job.stopping:
            job.stopping = True
            job.task.cancel()
        await asyncio.wait({job.task})

    async def remove(self, job: BackgroundJob) -> None:
        """Remove the record of a recording and its result; cancel it first if it has not ended."""
        await self.cancel(job)
        self._forget(job)
        discard = partial(self.services.store.discard, job.upload.pending)
        await self.services.disk.release(discard)

    def sweep(self) -> None:
        """Drop expired records, and the oldest of too many."""
        now = time.time()
        for job in list(self._ended.values()):
            full = len(self._ended) > MAX_RECORDS or self._kept_bytes > MAX_BYTES
            if not full and job.expires > now:
                break
            self._forget(job)

    async def close(self, error: ProtocolError) -> None:
        """Accept nothing more; end all uploads and jobs with `error`, and remove their files."""
        self.closed = error
        for reception in list(self._receptions):
            reception.interrupt()
        await asyncio.gather(*(self.cancel(job) for job in list(self._active.values())))
        dropped = [reception.ended.wait() for reception in self._receptions]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*dropped), CLOSE_S)

    async def _run(self, job: BackgroundJob, options: FileOptions) -> None:
        """Analyse one recording; remove its files unless it has a result."""
        work = RecordingJob(self.services, job.upload, options, job.progress, job.principal, job)
        try:
            done = await work.run()
        except ProtocolError as error:
            await self._drop(job, "failed", error)
        except asyncio.CancelledError:
            cancelled = ProtocolError("cancelled", "the recording was cancelled", fatal=False)
            await self._drop(job, "cancelled", self.closed or cancelled)
        else:
            job.keep(done)
            self.services.shared.metrics.file_ended("done")
            self._finish(job, "done")

    async def _drop(self, job: BackgroundJob, status: Status, error: ProtocolError) -> None:
        try:
            await self.services.drop(job.upload, error.code)
        finally:
            self._finish(job, status, error)

    def _finish(
        self, job: BackgroundJob, status: Status, error: ProtocolError | None = None
    ) -> None:
        keep_s = self.services.shared.config.files.keep_hours * 3600
        job.status, job.error, job.expires = status, error, time.time() + keep_s
        job.ended.set()
        del self._active[job.id]
        self._ended[job.id] = job
        self._kept_bytes += job.size
        self.sweep()

    def _forget(self, job: BackgroundJob) -> None:
        if self._ended.pop(job.id, None) is not None:
            self._kept_bytes -= job.size
