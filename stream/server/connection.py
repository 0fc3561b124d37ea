"""One connection of the port, before it is known what it wants."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection

REQUEST_S = 10.0
"""How long a connection may take to say what it wants."""


class RequestConnection(ServerConnection):
    """A server's connection whose answer may take longer than its request may.

    `key_name` is whose key opened it; "" where none was wanted.
    """

    key_name = ""

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                await asyncio.wait(
                    [self.request_rcvd, self.connection_lost_waiter],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await super().handshake(*args, **kwargs)
        except asyncio.CancelledError:
            # The server ends, and closes only connections that have asked for something.
            self.transport.abort()
            raise
