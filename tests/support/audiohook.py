"""A client of Genesys AudioHook for tests, over a real WebSocket."""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket

from tests.support.running import Server

PATH = "/v1/audiohook"
ORG = "d7934305-0972-4844-938e-9060eef73d05"
NULL = "00000000-0000-0000-0000-000000000000"
MEDIA = [
    {"type": "audio", "format": "PCMU", "channels": channels, "rate": 8000}
    for channels in (["external", "internal"], ["external"], ["internal"])
]


def request_headers(
    server: Server, session: str, key: str = "", secret: bytes = b"", path: str = PATH
) -> dict[str, str]:
    """Return the headers of an upgrade, signed if there is a secret."""
    headers = {
        "Audiohook-Organization-Id": ORG,
        "Audiohook-Session-Id": session,
        "Audiohook-Correlation-Id": str(uuid.uuid4()),
    }
    if key:
        headers["X-API-KEY"] = key
    if secret:
        parts = {"@request-target": path, "@authority": f"{server.host}:{server.port}"}
        parts |= {name.lower(): value for name, value in headers.items()}
        created = int(time.time())
        nonce = secrets.token_urlsafe(18)
        params = "({}){}".format(
            " ".join(f'"{name}"' for name in parts),
            f';keyid="{key}";nonce="{nonce}";alg="hmac-sha256";created={created}'
            f";expires={created + 30}",
        )
        base = "\n".join(f'"{name}": {value}' for name, value in parts.items())
        base += f'\n"@signature-params": {params}'
        digest = base64.b64encode(hmac.digest(secret, base.encode(), sha256)).decode()
        headers |= {"signature-input": f"sig1={params}", "signature": f"sig1=:{digest}:"}
    return headers


class Genesys:
    """One AudioHook session as its client sees it."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self.socket = socket
        self.session = session
        self._numbers = itertools.count(1)
        self.received = 0

    async def send(self, kind: str, **parameters: Any) -> None:
        message = {
            "version": "2",
            "id": self.session,
            "type": kind,
            "seq": next(self._numbers),
            "serverseq": self.received,
            "position": "PT0S",
            "parameters": parameters,
        }
        await self.socket.send(orjson.dumps(message).decode())

    async def receive(self, kind: str, timeout: float = 10.0) -> dict[str, Any]:
        """Return the next message, which has to be of this kind; its number is checked."""
        text = await asyncio.wait_for(self.socket.recv(), timeout)
        message: dict[str, Any] = orjson.loads(text)
        assert message["type"] == kind, message
        assert message["seq"] == self.received + 1
        assert isinstance(message["parameters"], dict)
        self.received += 1
        return message

    async def open(self, conversation: str = "", **more: Any) -> dict[str, Any]:
        person = {"ani": "+4930123", "aniName": "Ann", "dnis": "+4989456"}
        if conversation == NULL:
            person = dict.fromkeys(person, "")
        await self.send(
            "open",
            organizationId=ORG,
            conversationId=conversation or str(uuid.uuid4()),
            participant={"id": conversation or str(uuid.uuid4()), **person},
            media=MEDIA,
            **more,
        )
        return await self.receive("opened")

    async def audio(self, data: bytes, size: int = 3200, pace_s: float = 0.0) -> None:
        for at in range(0, len(data), size):
            await self.socket.send(data[at : at + size])
            if pace_s:
                await asyncio.sleep(pace_s)

    async def close(self, reason: str = "end") -> None:
        """Send `close`, wait for `closed`, and close without a code, as the real client does."""
        await self.send("close", reason=reason)
        await self.receive("closed")
        await self.socket.close()


@asynccontextmanager
async def genesys(
    server: Server, key: str = "", secret: bytes = b"", session: str = "", path: str = PATH
) -> AsyncIterator[Genesys]:
    """Connect a client; drop the connection at the end of the block if it is still open."""
    session = session or str(uuid.uuid4())
    headers = request_headers(server, session, key, secret, path)
    socket = await websocket(server.ws + path, additional_headers=headers, open_timeout=10)
    try:
        yield Genesys(socket, session)
    finally:
        socket.transport.abort()
        await asyncio.wait_for(socket.wait_closed(), 5)
