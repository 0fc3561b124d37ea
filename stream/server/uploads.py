"""Handler of /v1/files: uploads, progress and events of the analysis, results, cancellation."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream.admission import admit_recording
from stream.delivery.outbox import Outbox
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import FileBegin, FileCancel, FileEnd, KeepAlive
from stream.protocol.parsing import parse_files
from stream.recordings import messages
from stream.recordings.analysis import Progress
from stream.recordings.disk import disk_error
from stream.recordings.job import TICK_S, RecordingJob, RecordingServices
from stream.recordings.upload import Upload

log = logging.getLogger(__name__)

MAX_MISTAKES = 10
"""Number of invalid messages after which the connection is closed."""

HIGH_WATER = 200
"""Number of unread events above which the analysis waits for the client."""

OUTBOX = 5_000


class UploadHandler:
    """WebSocket connection of one client on /v1/files, for many recordings one after the other.

    `owner` is the name of the connection's key, to which the results belong; "" without keys.
    """

    def __init__(
        self, socket: ServerConnection, services: RecordingServices, owner: str = ""
    ) -> None:
        self._socket = socket
        self._services = services
        self._owner = owner
        self._out = Outbox(socket, OUTBOX, services.metrics)
        self._upload: Upload | None = None
        self._progress = Progress()
        self._job: asyncio.Task[None] | None = None
        self._skipping = False
        """Set after a refusal: the rest of that file is discarded."""
        self._mistakes = 0
        self._last_received = time.monotonic()
        self._closing = False

    async def run(self) -> None:
        """Serve the connection until it ends; then cancel and remove an unfinished recording."""
        tasks = [
            asyncio.create_task(self._out.run(), name="files-writer"),
            asyncio.create_task(self._watch(), name="files-clock"),
        ]
        try:
            self._out.send(messages.ready(self._services.config, self._services.model))
            async for message in self._socket:
                self._last_received = time.monotonic()
                try:
                    await self._handle(message)
                except ProtocolError as error:
                    self._refuse(error)
                    if error.fatal:
                        await self._out.close(error)
                        break
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("upload connection failed")
            await self.close(ProtocolError("internal_error", "internal server error; try again"))
        finally:
            for task in tasks:
                task.cancel()
            await self._stop_job()
            await self._drop_upload()

    async def close(self, error: ProtocolError) -> None:
        """Drop the current recording, send the error and close."""
        if self._closing:
            return
        self._closing = True
        await self._stop_job()
        # Not left to the end of `run`, because a server that shuts down does not wait for it.
        await self._drop_upload()
        error.fatal = True
        self._out.send(error.body())
        await self._out.close(error)

    # -- input from the client -----------------------------------------------------------------

    async def _handle(self, message: str | bytes) -> None:
        limit = self._services.config.limits.max_message_bytes
        if len(message) > limit:
            raise ProtocolError(
                "message_too_large", f"a message had {len(message)} bytes; send at most {limit}"
            )
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
        services = self._services
        if self._upload is not None or self._job is not None:
            raise ProtocolError(
                "invalid_message",
                "a recording is in progress: wait for file.done, or send file.cancel first",
                param="type",
                fatal=False,
            )
        self._skipping = True
        # Refuse it before it is sent. Its roles are compared with its channels after decoding.
        channels = max(1, len(begin.options.roles))
        admit_recording(services.config, begin.options, services.model, channels)
        try:
            upload = await Upload.open(
                begin, services.config.files.max_mb, services.disk, services.store
            )
        except OSError as error:
            raise self._disk_error(error) from None
        self._upload, self._skipping = upload, False
        self._progress = Progress(since=time.monotonic())
        services.metrics.file_began()
        log.info("recording started", extra={"file_id": upload.id, "bytes": begin.size})
        services.audit.record(
            "file.start",
            file_id=upload.id,
            bytes=begin.size,
            roles=begin.options.roles,
            disclosed=begin.options.disclosed,
        )
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
            failure = self._disk_error(error)
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
            self._services,
            upload,
            self._progress,
            self._owner,
            self._out.send,
            self._send_progress,
            self._throttle,
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
        self._services.metrics.file_ended("done")
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
        self._skipping = outcome not in ("cancelled",)
        self._services.metrics.file_ended(outcome)
        await upload.drop()

    # -- output to the client ------------------------------------------------------------------

    def _send_progress(self) -> None:
        if self._upload is None:
            return
        body = messages.progress(self._upload.id, self._progress)
        # A key per stage: in the outbox only the newest progress of each stage is kept.
        self._out.send(body, (self._upload.id, body["stage"]))

    def _disk_error(self, error: OSError) -> ProtocolError:
        log.error("result not written", extra={"reason": str(error)})
        return disk_error(error)

    def _refuse(self, error: ProtocolError, mistake: bool = True) -> None:
        """Send an error; count a mistake of the client, but not a recording that fails."""
        if mistake and error.code in ("invalid_message", "unknown_message"):
            self._mistakes += 1
            error.fatal |= self._mistakes >= MAX_MISTAKES
        error.fatal |= error.code == "message_too_large"
        self._services.metrics.refused(error.code)
        self._out.send(error.body())

    async def _throttle(self) -> None:
        """Yield to other tasks, and wait for a slow client."""
        await asyncio.sleep(0)
        if len(self._out.queue) > HIGH_WATER:
            await self._out.queue.emptied()

    async def _watch(self) -> None:
        """Send progress of the current recording; close an idle or slow connection."""
        limit = self._services.config.limits.idle_timeout_s
        slow_since: float | None = None
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self._send_progress()
            if len(self._out.queue) <= HIGH_WATER:
                slow_since = None
            elif slow_since is None:
                slow_since = now
            elif now - slow_since > self._services.config.limits.slow_consumer_s:
                self._socket.transport.abort()
                return
            if self._job is None and now - self._last_received > limit and not self._closing:
                error = ProtocolError(
                    "idle_timeout",
                    f"no message for {limit:g} s; send keepalive between recordings",
                )
                self._services.metrics.refused(error.code)
                await self.close(error)
                return
