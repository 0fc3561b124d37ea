"""Recordings to results: by a server, or in this process with the same code."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client.link import Server
from client.retry import Broken, NoServer, Refused, Unreachable
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
from stream.recordings.writer import NAMES, new_folder
from stream.telemetry.metrics import Metrics
from stream.types import ModelInfo, from_ms

FILES = "/v1/files"
ATTEMPTS = 4
PIECE = 256 * 1024
TICK_S = 0.2

Tell = Callable[[str, float], None]
"""Takes the stage and how much of it is done, 0 to 1."""

Result = dict[str, Any]


class Unusable(Exception):
    """A recording that gave no result; `code` is the error's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Done:
    """A result in a folder of its own; `notes` are the warnings on the way."""

    folder: Path
    result: Result
    notes: tuple[str, ...]


class Analyst(Protocol):
    """Whoever turns recordings into results."""

    @property
    def model(self) -> str:
        """Id and revision of the model, once `open` is done."""
        ...

    @property
    def where(self) -> str: ...

    async def open(self) -> None: ...

    async def analyse(self, path: Path, options: FileOptions, out: Path, tell: Tell) -> Done:
        """Raises `Unusable` for this recording, `Unreachable` and `Refused` for all of them."""
        ...

    async def close(self) -> None: ...


class Remote:
    """A server's `/v1/files`; results are fetched into `out`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.model = ""
        self.where = f"the server {server.url}"

    async def open(self) -> None:
        """See whether the server takes recordings. Raises `Unreachable` and `Refused`."""
        try:
            socket, ready = await self._connect()
        except NoServer as error:
            raise Unreachable(str(error)) from None
        except (Broken, ConnectionClosed) as error:
            raise Unreachable(f"{self._server.url}: {error}") from None
        await socket.close()
        self.model = f"{ready['model']['id']}@{ready['model']['revision']}"

    async def close(self) -> None:
        pass

    async def analyse(self, path: Path, options: FileOptions, out: Path, tell: Tell) -> Done:
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(path, options, out, tell)
            except (Broken, ConnectionClosed) as error:
                if attempt == ATTEMPTS - 1:
                    raise Unreachable(f"gave up after {ATTEMPTS} tries: {error}") from None
                wish = getattr(error, "retry_after_s", 0.0)
                await asyncio.sleep(max(wish, 0.5 * 2**attempt))
        raise AssertionError("unreachable")

    async def _connect(self) -> tuple[ClientConnection, Result]:
        socket = await self._server.connect(FILES)
        ready = orjson.loads(await socket.recv())
        if ready.get("type") != "files.ready":
            raise Refused(4400, "protocol", f"the server said {ready.get('type')} first")
        return socket, ready

    async def _attempt(self, path: Path, options: FileOptions, out: Path, tell: Tell) -> Done:
        socket, ready = await self._connect()
        async with socket:
            size = (await asyncio.to_thread(path.stat)).st_size
            begin = {"type": "file.begin", "name": path.name, "size": size}
            begin["options"] = options.model_dump(mode="json")
            await socket.send(orjson.dumps(begin).decode())
            piece = min(PIECE, ready["limits"]["max_message_bytes"])
            with await asyncio.to_thread(path.open, "rb") as file:
                sending = asyncio.create_task(_upload(socket, file, piece))
                try:
                    done, notes = await _listen(socket, tell)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        folder = await asyncio.to_thread(self._fetch, done["files"], out)
        return Done(folder, done["result"], notes)

    def _fetch(self, files: list[Result], out: Path) -> Path:
        """Download into a new folder. Raises `Unusable`."""
        folder = new_folder(out, time.time())
        try:
            for file in files:
                # The name is the server's word: it must be one of ours, so it is no path.
                if file["name"] in NAMES:
                    self._download(file["url"], folder / file["name"])
        except (OSError, http.client.HTTPException) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise Unusable("download_failed", f"its result could not be fetched: {error}") from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _download(self, url: str, path: Path) -> None:
        parts = urlsplit(self._server.address(url))
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "wss":
            context = self._server.tls or ssl.create_default_context(cafile=self._server.ca_file)
            connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=30)
        key = self._server.api_key
        try:
            connection.request(
                "GET", parts.path, headers={"Authorization": f"Bearer {key}"} if key else {}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"HTTP {answer.status} {answer.reason}")
            with path.open("wb") as file:
                shutil.copyfileobj(answer, file, PIECE)
        finally:
            connection.close()


async def _upload(socket: ClientConnection, file: BinaryIO, piece: int) -> None:
    while data := await asyncio.to_thread(file.read, piece):
        await socket.send(data)
    await socket.send('{"type": "file.end"}')


async def _listen(socket: ClientConnection, tell: Tell) -> tuple[Result, tuple[str, ...]]:
    notes: list[str] = []
    async for text in socket:
        event = orjson.loads(text)
        match event["type"]:
            case "file.progress":
                tell(event["stage"], event["share"])
            case "file.log":
                if event["level"] == "warning":
                    notes.append(event["message"])
            case "file.done":
                return event, tuple(notes)
            case "error":
                if event["fatal"] and event["retryable"]:
                    raise Broken(event["message"], float(event.get("retry_after_s") or 0))
                raise Unusable(event["code"], event["message"])
    raise Broken("the connection ended before the result")


class Local:
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
