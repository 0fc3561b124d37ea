"""Analysis of recordings by a server, over `/v1/files`."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client.batch.analyser import Analysis, AnalysisFailed, OnProgress
from client.remote.endpoint import Endpoint
from client.remote.errors import Broken, NoServer, Refused, Unreachable
from client.remote.reader import read_event
from stream.printable import utf8
from stream.protocol.file_options import FileOptions
from stream.protocol.file_requests import MAX_NAME
from stream.protocol.wire.events import FileEvent
from stream.protocol.wire.recordings import FileDone, FilesReady, ResultFile
from stream.result_files import NAMES, new_folder

FILES = "/v1/files"
ATTEMPTS = 4
CHUNK = 256 * 1024
"""Bytes that are read, sent or copied at a time."""


class RemoteAnalyser:
    """Analyser that uploads to a server and downloads the results."""

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self.model = ""
        self.where = f"the server {server.url}"

    async def open(self) -> None:
        """Check that the server accepts recordings. Raises `Unreachable` and `Refused`."""
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

    async def analyse(
        self, path: Path, options: FileOptions, out: Path, on_progress: OnProgress
    ) -> Analysis:
        """Upload, wait, download; make up to `ATTEMPTS` attempts. Raises as `Analyser.analyse`."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(path, options, out, on_progress)
            except (Broken, ConnectionClosed) as error:
                if attempt == ATTEMPTS - 1:
                    raise Unreachable(f"failed after {ATTEMPTS} attempts: {error}") from None
                retry_after = getattr(error, "retry_after_s", 0.0)
                await asyncio.sleep(max(retry_after, 0.5 * 2**attempt))
        raise AssertionError("unreachable")

    async def _connect(self) -> tuple[ClientConnection, FilesReady]:
        socket = await self._server.connect(FILES)
        event = cast(FileEvent, read_event(await socket.recv()))
        if event["type"] != "files.ready":
            text = f"unexpected first message {event['type']!r}, expected 'files.ready'"
            raise Refused(4400, "protocol", text)
        return socket, event

    async def _attempt(
        self, path: Path, options: FileOptions, out: Path, on_progress: OnProgress
    ) -> Analysis:
        socket, ready = await self._connect()
        async with socket:
            size = (await asyncio.to_thread(path.stat)).st_size
            begin = {"type": "file.begin", "name": utf8(path.name)[-MAX_NAME:], "size": size}
            begin["options"] = options.given()
            await socket.send(orjson.dumps(begin).decode())
            chunk = min(CHUNK, ready["limits"]["max_message_bytes"])
            with await asyncio.to_thread(path.open, "rb") as file:
                sending = asyncio.create_task(_upload(socket, file, chunk))
                try:
                    done, warnings = await _receive(socket, on_progress)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        folder = await asyncio.to_thread(self._fetch, done["files"], out)
        return Analysis(folder, done["result"], warnings)

    def _fetch(self, files: Sequence[ResultFile], out: Path) -> Path:
        """Download the files into a new folder and return it. Raises `AnalysisFailed`."""
        folder = new_folder(out, time.time())
        try:
            for file in files:
                # The server chooses the name: accept only known ones, so that it is never a path.
                if file["name"] in NAMES:
                    self._download(file["url"], folder / file["name"])
        except (OSError, http.client.HTTPException) as error:
            shutil.rmtree(folder, ignore_errors=True)
            text = f"the result could not be downloaded: {error}"
            raise AnalysisFailed("download_failed", text) from None
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
            response = connection.getresponse()
            if response.status != 200:
                raise OSError(f"HTTP {response.status} {response.reason}")
            with path.open("wb") as file:
                shutil.copyfileobj(response, file, CHUNK)
        finally:
            connection.close()


async def _upload(socket: ClientConnection, file: BinaryIO, chunk: int) -> None:
    while data := await asyncio.to_thread(file.read, chunk):
        await socket.send(data)
    await socket.send('{"type": "file.end"}')


async def _receive(
    socket: ClientConnection, on_progress: OnProgress
) -> tuple[FileDone, tuple[str, ...]]:
    """Return `file.done` and the warnings. Raises `Broken` and `AnalysisFailed`."""
    warnings: list[str] = []
    async for text in socket:
        event = cast(FileEvent, read_event(text))
        match event["type"]:
            case "file.progress":
                on_progress(event["stage"], event["share"])
            case "file.log":
                if event["level"] == "warning":
                    warnings.append(event["message"])
            case "file.done":
                return event, tuple(warnings)
            case "error":
                if event["fatal"] and event["retryable"]:
                    raise Broken(event["message"], float(event.get("retry_after_s") or 0))
                raise AnalysisFailed(event["code"], event["message"])
    raise Broken("connection closed before the result")
