"""Routing of WebSockets: path → scope, capacity and handler, decided before the upgrade."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Protocol, cast
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request, Response

from stream.config import Scope
from stream.delivery.transport import Handler
from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import Query
from stream.protocol.version import SUBPROTOCOL
from stream.quotas import Quotas
from stream.server.access.auth import Authenticator
from stream.server.access.gate import Busy, Gate, Refusal, over_quota
from stream.server.connections.websocket import WebSocketConnection
from stream.server.process.lifecycle import Lifecycle, Phase
from stream.tenants import Principal

log = logging.getLogger(__name__)

TICK_S = 0.4
"""Interval of the time limits and progress messages of connections, in seconds."""


class Connected(Handler, Protocol):
    """A handler that the router keeps: with time limits, and closed when the process drains."""

    def tick(self) -> None:
        """Apply time limits; called every `TICK_S` seconds."""
        ...

    async def close(self, error: ProtocolError) -> None:
        """Send the error and close."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection to be served: its request, and who sent it."""

    connection: WebSocketConnection
    path: str
    query: Query
    headers: Mapping[str, str]
    principal: Principal


Identify = Callable[[Request, Query, str], Principal | Sequence[str]]
"""Returns who sends a request, or the Authorization headers to check; its last argument is what
stands behind the path of the endpoint. Raises `Refusal`."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: the scope it needs, its capacity, its handler, its largest message.

    `capacity` raises `ProtocolError` if a quota of the key or its tenant is exceeded.
    `kept` handlers are ticked and closed by the router; producers belong to the registry.
    `subprotocols` are those to select from. With `identify` the endpoint is for foreign systems:
    the path may end with a key, and the function decides who sends a request.
    """

    scope: Scope
    capacity: Callable[[Query, Principal], Busy | None]
    handler: Callable[[Accepted], Handler]
    max_bytes: int
    kept: bool = True
    subprotocols: Sequence[str] = (SUBPROTOCOL,)
    identify: Identify | None = None


class Router:
    """Decides on every upgrade, and keeps the connections that it accepted."""

    def __init__(self, gate: Gate, lifecycle: Lifecycle, quotas: Quotas) -> None:
        self._gate = gate
        self._quotas = quotas
        self._lifecycle = lifecycle
        self.routes: dict[str, Route] = {}
        """Endpoints by path; filled once the model is loaded."""
        self.connections: set[WebSocketConnection] = set()
        self._kept: dict[WebSocketConnection, Connected] = {}
        self._principals: dict[WebSocketConnection, Principal] = {}
        """Principals of the connections that are kept."""

    @property
    def authenticator(self) -> Authenticator:
        """Check of the keys of all requests."""
        return self._gate.authenticator

    def upgrade(
        self, connection: WebSocketConnection, request: Request
    ) -> Callable[[], Handler] | Response:
        """Return what makes the handler of a connection, or the response that refuses it."""
        try:
            path, query, principal = self._check(request)
        except Refusal as refusal:
            return refusal.response()
        route = self.routes[path]
        connection.max_bytes = route.max_bytes
        connection.subprotocols = route.subprotocols
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        accepted = Accepted(connection, path, query, headers, principal)
        return lambda: self._serve(route, accepted)

    def _check(self, request: Request) -> tuple[str, Query, Principal]:
        """Return path, query and sender of a request that is served. Raises `Refusal`."""
        try:
            url = urlsplit(request.path)
        except ValueError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "malformed request path") from None
        headers = request.headers
        self._gate.check_host(headers.get_all("Host"))
        query = parse_qs(url.query, keep_blank_values=True)
        path, secret = self._endpoint(url.path)
        route = self.routes.get(path)
        if route is None:
            self._gate.check_known(path)
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the model is loading", 2)
        offered = ",".join(headers.get_all("Sec-WebSocket-Protocol")).split(",")
        who: Principal | Sequence[str] = headers.get_all("Authorization")
        if route.identify is not None:
            who = route.identify(request, query, secret)
        principal = (
            who
            if isinstance(who, Principal)
            else self._gate.check_key(route.scope, path, who, [part.strip() for part in offered])
        )
        self._gate.check_origin(headers.get_all("Origin"), headers.get_all("Host"))
        if self._lifecycle.phase is not Phase.SERVING:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "draining", 5)
        try:
            busy = route.capacity(query, principal)
        except ProtocolError as error:
            raise over_quota(error) from None
        if busy is not None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, *busy)
        return path, query, principal

    def _endpoint(self, path: str) -> tuple[str, str]:
        """Return the endpoint of a path, and the key behind it if the endpoint takes one."""
        head, _, secret = path.rpartition("/")
        route = self.routes.get(head)
        takes_key = route.identify is not None if route else head in self._gate.websockets
        return (head, secret) if takes_key else (path, "")

    def _serve(self, route: Route, accepted: Accepted) -> Handler:
        connection, principal = accepted.connection, accepted.principal
        connection.meter = partial(self._quotas.bytes_received, principal)
        handler = route.handler(accepted)
        if route.kept:
            # A route that is kept makes a `Connected`; see `Route.kept`.
            self._kept[connection] = cast(Connected, handler)
            self._principals[connection] = principal
        return handler

    def holders(self, kind: type[Handler]) -> list[Principal]:
        """Return who opened the connections that are served by handlers of a class."""
        self._forget_closed()
        return [
            self._principals[c] for c, handler in self._kept.items() if isinstance(handler, kind)
        ]

    def count(self, kind: type[Handler]) -> int:
        """Return the number of open connections that are served by handlers of a class."""
        return len(self.holders(kind))

    async def run(self) -> None:
        """Apply the time limits of all connections until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self._forget_closed()
            for connection in list(self.connections):
                connection.tick()
            for handler in list(self._kept.values()):
                try:
                    handler.tick()
                except Exception:
                    log.exception("connection failed")

    async def close(self, error: ProtocolError) -> None:
        """Send the error to all kept connections and close them."""
        closing = [handler.close(error) for handler in list(self._kept.values())]
        await asyncio.gather(*closing, return_exceptions=True)

    def abort(self) -> None:
        """Drop every connection that is still open."""
        for connection in list(self.connections):
            connection.abort()

    def _forget_closed(self) -> None:
        for connection in self._kept.keys() - self.connections:
            del self._kept[connection], self._principals[connection]
