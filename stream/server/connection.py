"""Connection with a time limit for its request."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection

REQUEST_S = 10.0
"""Time for a connection to send its HTTP request."""


class RequestConnection(ServerConnection):
    """Server connection that limits the time for the request, but not for the response.

    `key_name` is the name of the key that it was admitted with; "" if none was required.
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
            # On shutdown, websockets closes only connections that have sent a request.
            self.transport.abort()
            raise
