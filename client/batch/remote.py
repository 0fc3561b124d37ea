"""Recordings to results by a server, over `/v1/files`."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import ssl
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client.batch.analyst import Done, Result, Tell, Unusable
from client.remote.endpoint import Endpoint
from client.remote.errors import Broken, NoServer, Refused, Unreachable
from stream.protocol.messages import FileOptions
from stream.recordings.writer import NAMES, new_folder

FILES = "/v1/files"
ATTEMPTS = 4
PIECE = 256 * 1024
TICK_S = 0.2


class RemoteAnalyst:
    """A server's `/v1/files`; results are fetched into `out`."""

    def __init__(self, server: Endpoint) -> None:
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
