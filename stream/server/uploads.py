"""Recordings on /v1/files: upload, analysis as it goes, results to fetch, cancel at any time."""

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
from stream.recordings.disk import disk_trouble
from stream.recordings.job import TICK_S, RecordingJob, RecordingServices
from stream.recordings.upload import Upload

log = logging.getLogger(__name__)

PATIENCE = 10

CROWDED = 200
"""With this many events unread, the analysis waits for its reader."""

OUTBOX = 5_000


class UploadHandler:
    """One WebSocket on /v1/files. It may bring many recordings, one after the other.

    `owner` is the name of the key that opened it, and whose the results are; "" without keys.
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
        """After a refusal, what still comes of that file is passed over."""
        self._mistakes = 0
        self._heard = time.monotonic()
        self._leaving = False

    async def run(self) -> None:
        """Serve the connection until it ends; what is unfinished then is cancelled and removed."""
        tasks = [
            asyncio.create_task(self._out.run(), name="files-writer"),
            asyncio.create_task(self._watch(), name="files-clock"),
        ]
        try:
            self._out.say(messages.ready(self._services.config, self._services.model))
            async for message in self._socket:
                self._heard = time.monotonic()
                try:
                    await self._take(message)
                except ProtocolError as error:
                    self._refuse(error)
                    if error.fatal:
                        await self._out.goodbye(error)
                        break
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("a connection for recordings failed")
            await self.leave(ProtocolError("internal_error", "something went wrong here"))
        finally:
            for task in tasks:
                task.cancel()
            await self._stop_job()
            await self._drop_upload()

    async def leave(self, error: ProtocolError) -> None:
        """Tell the reason and close; the recording in hand is given up."""
        if self._leaving:
            return
        self._leaving = True
        await self._stop_job()
        # Now, because a server that goes does not wait for the connection's own end.
        await self._drop_upload()
        error.fatal = True
        self._out.say(error.body())
        await self._out.goodbye(error)

    # -- what is said to us --------------------------------------------------------------------

    async def _take(self, message: str | bytes) -> None:
        most = self._services.config.limits.max_message_bytes
        if len(message) > most:
            raise ProtocolError(
                "message_too_large", f"a message had {len(message)} bytes; send at most {most}"
            )
        if isinstance(message, bytes):
            await self._bytes(message)
            return
        said = parse_files(message)
        match said:
            case FileBegin():
                await self._begin(said)
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
                "a recording is in hand: wait for file.done, or send file.cancel first",
                param="type",
                fatal=False,
            )
        self._skipping = True
        # Refused before it is sent; roles are held against the file's channels once it is decoded.
        channels = max(1, len(begin.options.roles))
        admit_recording(services.config, begin.options, services.model, channels)
        try:
            upload = await Upload.open(
                begin, services.config.files.max_mb, services.disk, services.store
            )
        except OSError as error:
            raise self._trouble(error) from None
        self._upload, self._skipping = upload, False
        self._progress = Progress(since=time.monotonic())
        services.metrics.file_began()
        log.info("recording began", extra={"file_id": upload.id, "bytes": begin.size})
        services.audit.record(
            "file.start",
            file_id=upload.id,
            bytes=begin.size,
            roles=begin.options.roles,
            disclosed=begin.options.disclosed,
        )
        self._out.say({"type": "file.accepted", "file_id": upload.id, "name": begin.name})
        self._tell_progress()

    async def _bytes(self, data: bytes) -> None:
        self._only_before_the_end("bytes came after file.end")
        upload = self._upload
        if upload is None:
            if self._skipping:
                return
            raise ProtocolError(
                "invalid_message", "bytes came before file.begin", param="type", fatal=False
            )
        try:
            await upload.take(data)
        except ProtocolError as error:
            await self._drop_upload(error.code)
            raise
        except OSError as error:
            told = self._trouble(error)
            await self._drop_upload(told.code)
            raise upload.about(told) from None
        self._progress.share = upload.share

    async def _end(self) -> None:
        self._only_before_the_end("file.end came twice")
        upload = self._upload
        if upload is None:
            if self._skipping:
                self._skipping = False
                return
            raise ProtocolError(
                "invalid_message", "file.end came before file.begin", param="type", fatal=False
            )
        try:
            upload.complete()
        except ProtocolError as error:
            await self._drop_upload(error.code)
            raise
        self._job = asyncio.create_task(self._analyse(upload), name=f"job[{upload.id}]")

    def _only_before_the_end(self, fault: str) -> None:
        """Raises `ProtocolError` once the recording is whole: its job has the file now."""
        if self._job is not None:
            raise ProtocolError("invalid_message", fault, param="type", fatal=False)

    async def _cancel(self) -> None:
        upload = self._upload
        self._skipping = False
        if upload is None:
            # It was over already, which the client could not know yet.
            return
        await self._stop_job()
        if self._upload is upload:
            await self._drop_upload("cancelled")
            self._out.say({"type": "file.cancelled", "file_id": upload.id})

    # -- the recording -------------------------------------------------------------------------

    async def _analyse(self, upload: Upload) -> None:
        job = RecordingJob(
            self._services,
            upload,
            self._progress,
            self._owner,
            self._out.say,
            self._tell_progress,
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
        self._tell_progress()
        self._upload = self._job = None
        self._services.metrics.file_ended("done")
        self._out.say(done)

    async def _stop_job(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

    async def _drop_upload(self, outcome: str = "cancelled") -> None:
        """Forget the file in hand and remove what there is of it."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        self._skipping = outcome not in ("cancelled",)
        self._services.metrics.file_ended(outcome)
        await upload.drop()

    # -- what we say ---------------------------------------------------------------------------

    def _tell_progress(self) -> None:
        if self._upload is None:
            return
        body = messages.progress(self._upload.id, self._progress)
        # Of each stage only the newest waits for a slow reader.
        self._out.say(body, (self._upload.id, body["stage"]))

    def _trouble(self, error: OSError) -> ProtocolError:
        told = disk_trouble(error)
        log.error("a result cannot be written", extra={"reason": str(error)})
        return told

    def _refuse(self, error: ProtocolError, mistake: bool = True) -> None:
        """Tell an error. Mistakes of the client are counted, a recording that fails is none."""
        if mistake and error.code in ("invalid_message", "unknown_message"):
            self._mistakes += 1
            error.fatal |= self._mistakes >= PATIENCE
        error.fatal |= error.code == "message_too_large"
        self._services.metrics.refused(error.code)
        self._out.say(error.body())

    async def _throttle(self) -> None:
        """Let others have their turn, and a slow reader catch up."""
        await asyncio.sleep(0)
        if len(self._out.queue) > CROWDED:
            await self._out.queue.emptied()

    async def _watch(self) -> None:
        """Tell progress while there is something in hand; end connections that only sit there."""
        limit = self._services.config.limits.idle_timeout_s
        unread: float | None = None
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self._tell_progress()
            if len(self._out.queue) <= CROWDED:
                unread = None
            elif unread is None:
                unread = now
            elif now - unread > self._services.config.limits.slow_consumer_s:
                self._socket.transport.abort()
                return
            if self._job is None and now - self._heard > limit and not self._leaving:
                error = ProtocolError(
                    "idle_timeout",
                    f"nothing came for {limit:g} s; send keepalive between recordings",
                )
                self._services.metrics.refused(error.code)
                await self.leave(error)
                return
