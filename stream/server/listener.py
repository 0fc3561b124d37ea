"""The port: HTTP goes to the application, upgraded connections to our WebSockets."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import ServerState

from stream.config import ServerConfig
from stream.errors import ConfigError
from stream.server.access.tls import tls_context
from stream.server.connections.fair_queue import FairQueue
from stream.server.connections.http_protocol import HttpProtocol
from stream.server.connections.metered import MeteredLayer
from stream.server.connections.websocket import WebSocketConnection
from stream.server.endpoints.router import Router
from stream.server.process.descriptors import Refusals

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10
MAX_HEAD = 16_384
"""Bytes of a request line with its headers."""

ANSWER_S = 0.5
"""Seconds in which requests are answered once the process exits; `http.application` limits them."""

BACKLOG = 512
"""Connections that wait to be accepted."""


class Listener:
    """The listening socket of one process. HTTP goes to `app`, WebSockets to `router`."""

    def __init__(
        self,
        config: ServerConfig,
        app: ASGIApp,
        router: Router,
        max_bytes: int,
        max_connections: int,
    ) -> None:
        self._config = config
        self.max_connections = max_connections
        self._refusals = Refusals(max_connections)
        self._router = router
        self._state = ServerState()
        self._uvicorn = UvicornConfig(
            MeteredLayer(app),
            ws=self._websocket(max_bytes),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        self._server: asyncio.Server | None = None
        self.queue: FairQueue
        """Shares the event loop's time among the connections; set once it listens."""
        self.port = config.port

    async def open(self) -> None:
        """Listen. Raises `ConfigError` if the port cannot be had."""
        config = self._config
        self._uvicorn.load()
        self.queue = FairQueue()
        make = partial(HttpProtocol, self._uvicorn, self._state, {}, self.queue, self._excess)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                make,
                config.host,
                config.port,
                ssl=tls_context(config.tls_cert, config.tls_key),
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ConfigError(
                f"server.port: cannot listen on {config.host}:{config.port}: "
                f"{error.strerror or error}; is another server running? choose another --port"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and drop every connection that is still open."""
        if self._server is not None:
            self._server.close()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=ANSWER_S)
        self._router.abort()
        for connection in list(self._state.connections):
            connection.transport.abort()
        if self._state.tasks:
            # Those that notice the lost connection by themselves.
            await asyncio.wait(self._state.tasks, timeout=ANSWER_S)
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def count(self) -> int:
        """Return the number of open connections."""
        return len(self._state.connections) + len(self._router.connections)

    def _excess(self) -> int:
        """Return how many connections there are too many, and report a new one among them."""
        count = self.count()
        if count <= self.max_connections:
            return 0
        self._refusals.report()
        return count - self.max_connections

    def _websocket(self, max_bytes: int) -> Any:
        """Return what uvicorn calls for an upgraded connection."""

        def make(config: Any, server_state: Any, app_state: Any) -> WebSocketConnection:
            router = self._router
            return WebSocketConnection(
                router.upgrade, max_bytes, router.connections, self.queue, app_state["usage"]
            )

        return make
