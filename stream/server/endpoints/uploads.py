"""Handler of /v1/files: uploads, progress and events of the analysis, results, cancellation."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from stream.delivery.outbox import Outbox
from stream.delivery.transport import Message
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.messages import FileBegin, FileCancel, FileEnd, KeepAlive
from stream.protocol.mistakes import Mistakes
from stream.protocol.parsing import parse_files
from stream.protocol.wire.analysis import AnalysisBody
from stream.protocol.wire.codes import ErrorCode
from stream.recordings import messages
from stream.recordings.analysis import Progress
from stream.recordings.job import RecordingJob
from stream.recordings.log import LogEntry
from stream.recordings.services import RecordingServices, write_failed
from stream.recordings.upload import Upload
from stream.server.connections.inbox import Inbox
from stream.server.connections.websocket import WebSocketConnection
from stream.tenants import ANYONE, Principal

log = logging.getLogger(__name__)

HIGH_WATER = 200
"""Number of unread events above which the analysis waits for the client."""

OUTBOX = 5_000


class UploadHandler:
    """WebSocket connection of one client on /v1/files, for many recordings one after the other.

    The results belong to `principal`.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        services: RecordingServices,
        principal: Principal = ANYONE,
    ) -> None:
        self._connection = connection
        self._services = services
        self._shared = services.shared
        self._principal = principal
        self._inbox = Inbox(connection)
        self._out = Outbox(connection, OUTBOX, self._shared.metrics)
        self._upload: Upload | None = None
        self._options = FileOptions()
        self._progress = Progress()
        self._job: asyncio.Task[None] | None = None
        self._skipping = False
        """Set after a refusal: the rest of that file is discarded."""
        self._mistakes = Mistakes()
        self._last_received = self._last_progress = time.monotonic()
        self._since = time.monotonic()
        """Time at which the current upload began, or else the last recording ended."""
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="uploads")
        services.keep(self._task)

    # -- see `transport.Handler` and `router.Connected` ----------------------------------------

    def received(self, message: Message) -> None:
        self._last_received = time.monotonic()
        if not self._closing:
            self._inbox.put(message)

    def resumed(self) -> None:
        self._out.flush()

    def refused(self, code: ErrorCode, message: str) -> None:
        self._refuse(ProtocolError(code, message))

    def disconnected(self, code: int | None) -> None:
        self._out.flush()
        self._inbox.drop()
        # Bytes that still wait belong to a recording that nobody fetches.
        self._closing = True
        self._task.cancel()

    def tick(self) -> None:
        """Send progress of the current recording; close an idle or slow connection."""
        limits, now = self._shared.config.limits, time.monotonic()
        self._send_progress()
        if self._out.blocked_s() > limits.slow_consumer_s and len(self._out.queue) > HIGH_WATER:
            self._connection.abort()
        elif self._job is not None or self._closing:
            return
        elif (reason := self._overdue(now)) is not None:
            error = ProtocolError("idle_timeout", reason)
            self._shared.metrics.refused(error.code)
            self._closer = asyncio.create_task(self.close(error))

    def _overdue(self, now: float) -> str | None:
        """Return why the client no longer keeps its place, or None if it does."""
        idle_s, files = self._shared.config.limits.idle_timeout_s, self._shared.config.files
        if now - self._last_received > idle_s:
            return f"no message for {idle_s:g} s; send keepalive between recordings"
        waits_s = now - self._since
        if self._upload is None and waits_s > files.no_file_timeout_s:
            return f"no recording for {files.no_file_timeout_s:g} s; connect again to send one"
        if self._upload is not None and waits_s > files.upload_timeout_s:
            limit = files.upload_timeout_s
            return f"the recording did not arrive in {limit:g} s; compress it or cut it"
        return None

    async def close(self, error: ProtocolError) -> None:
        """Drop the current recording, send the error and close."""
        if self._closing:
            return
        self._closing = True
        await self._stop_job()
        # Not left to the end of the connection: a server that shuts down does not wait for it.
        await self._drop_upload()
        error.fatal = True
        self._out.send(error.body())
        await self._out.close(error.close_code, error.code)

    async def _run(self) -> None:
        """Handle messages until the connection ends; then remove an unfinished recording."""
        try:
            self._out.send(
                messages.ready(self._shared.config, self._shared.model, self._principal.tenant)
            )
            while (message := await self._inbox.get()) is not None:
                try:
                    await self._handle(message)
                except ProtocolError as error:
                    self._refuse(error)
                    if error.fatal:
                        await self._out.close(error.close_code, error.code)
                        break
        except asyncio.CancelledError:
            # The connection is lost. The exception would keep this frame, with its message.
            pass
        except Exception:
            log.exception("upload connection failed")
            await self.close(ProtocolError("internal_error", "internal server error; try again"))
        finally:
            await self._stop_job()
            await self._drop_upload()

    # -- input from the client -----------------------------------------------------------------

    async def _handle(self, message: Message) -> None:
        if isinstance(message, bytes):
            await self._receive(message)
            return
        control = parse_files(message)
        match control:
            case FileBegin():
                await self._begin(control)
            case FileEnd():
                await self._end()
            case FileCancel():
                await self._cancel()
            case KeepAlive():
                pass

    async def _begin(self, begin: FileBegin) -> None:
        if self._upload is not None or self._job is not None:
            raise ProtocolError(
                "invalid_message",
                "a recording is in progress: wait for file.done, or send file.cancel first",
                param="type",
                fatal=False,
            )
        self._skipping = True
        # Refuse it before it is sent.
        self._services.admit(begin.options)
        upload = await self._services.open_upload(begin.name, begin.size)
        self._upload, self._options, self._skipping = upload, begin.options, False
        self._since = time.monotonic()
        self._progress = Progress(since=self._since)
        self._services.audit(upload, begin.options, self._principal)
        self._out.send({"type": "file.accepted", "file_id": upload.id, "name": begin.name})
        self._send_progress()

    async def _receive(self, data: bytes) -> None:
        self._require_incomplete("bytes received after file.end")
        upload = self._upload
        if upload is None:
            if self._skipping:
                return
            raise ProtocolError(
                "invalid_message", "bytes received before file.begin", param="type", fatal=False
            )
        try:
            await upload.write(data)
        except ProtocolError as error:
            await self._drop_upload(error.code)
            raise
        except OSError as error:
            failure = write_failed(error)
            await self._drop_upload(failure.code)
            raise upload.tag(failure) from None
        self._progress.share = upload.share

    async def _end(self) -> None:
        self._require_incomplete("file.end received twice")
        upload = self._upload
        if upload is None:
            if self._skipping:
                self._skipping = False
                return
            raise ProtocolError(
                "invalid_message", "file.end received before file.begin", param="type", fatal=False
            )
        try:
            upload.check_complete()
        except ProtocolError as error:
            await self._drop_upload(error.code)
            raise
        self._job = asyncio.create_task(self._analyse(upload), name=f"job[{upload.id}]")

    def _require_incomplete(self, message: str) -> None:
        """Raise `ProtocolError` if the upload is complete, because its job uses the file now."""
        if self._job is not None:
            raise ProtocolError("invalid_message", message, param="type", fatal=False)

    async def _cancel(self) -> None:
        upload = self._upload
        self._skipping = False
        if upload is None:
            # The recording has ended; the client may not have received that yet.
            return
        await self._stop_job()
        if self._upload is upload:
            await self._drop_upload("cancelled")
            self._out.send({"type": "file.cancelled", "file_id": upload.id})

    # -- the recording -------------------------------------------------------------------------

    async def _analyse(self, upload: Upload) -> None:
        job = RecordingJob(
            self._services, upload, self._options, self._progress, self._principal, self
        )
        try:
            done = await job.run()
        except ProtocolError as error:
            self._job = None
            await self._drop_upload(error.code)
            self._refuse(error, mistake=False)
            return
        self._progress.share = 1.0
        self._send_progress()
        self._upload = self._job = None
        self._since = time.monotonic()
        self._shared.metrics.file_ended("done")
        self._out.send(done)

    async def _stop_job(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

    async def _drop_upload(self, outcome: str = "cancelled") -> None:
        """Remove the current upload and its files."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        self._since = time.monotonic()
        self._skipping = outcome not in ("cancelled",)
        await self._services.drop(upload, outcome)

    # -- see `recordings.analysis.Observer` ----------------------------------------------------

    def log(self, entry: LogEntry) -> None:
        if self._upload is not None:
            self._out.send(messages.logged(self._upload.id, entry))

    def event(self, body: AnalysisBody) -> None:
        if self._upload is not None:
            self._out.send(messages.analysed(self._upload.id, body))

    def stage(self) -> None:
        self._send_progress()

    async def throttle(self) -> None:
        """Yield to other tasks, and wait for a slow client."""
        await asyncio.sleep(0)
        if len(self._out.queue) > HIGH_WATER:
            await self._out.queue.emptied()

    # -- output to the client ------------------------------------------------------------------

    def _send_progress(self) -> None:
        if self._upload is None:
            return
        body = messages.progress(self._upload.id, self._progress)
        # A key per stage: in the outbox only the newest progress of each stage is kept.
        self._out.send(body, (self._upload.id, body["stage"]))

    def _refuse(self, error: ProtocolError, mistake: bool = True) -> None:
        """Send an error; count a mistake of the client, but not a recording that fails."""
        if mistake and error.code in ("invalid_message", "unknown_message"):
            error.fatal |= self._mistakes.add(time.monotonic())
        error.fatal |= error.code == "message_too_large"
        self._shared.metrics.refused(error.code)
        self._out.send(error.body())
