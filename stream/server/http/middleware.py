"""Layers around the HTTP application: headers, errors as JSON, time limits, host, key, origin."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.server.access.gate import Gate, Refusal, redacted, scope_of
from stream.server.responses import JSON, common_headers, error_body
from stream.tenants import ANYONE

log = logging.getLogger(__name__)

STALL_S = 30.0
"""A response whose client accepts no data for this many seconds is ended."""

UNREAD_S = 2.0
"""Seconds for which the rest of a refused body is read, so that the client gets the refusal."""

ABORT_S = 1.0
"""Seconds for an aborted connection to end."""

MAX_TARGET = 8_192
"""Bytes of a request's path and query."""

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class CommonLayer:
    """The outermost layer: what every response carries, and what ends a request.

    A page of another host name is refused here, before anything else.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send)
        try:
            try:
                _check_target(scope)
                self._gate.check_host(exchange.request.headers.getlist("host"))
            except Refusal as refusal:
                await refused(refusal)(scope, exchange.receive, exchange.send)
                return
            await self._app(scope, exchange.receive, exchange.send)
        except _Stalled:
            log.info("response ended: its client does not read")
            await exchange.abort()
        except asyncio.CancelledError:
            # Only a process that exits cancels requests. Their connections are aborted already.
            await exchange.abort()
        except Exception:
            path = redacted(scope["path"])
            log.exception("request failed", extra={"method": scope["method"], "path": path})
            if exchange.started:
                await exchange.abort()
            else:
                failure = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")
                await refused(failure)(scope, exchange.receive, exchange.send)


class AccessLayer:
    """The layer that checks keys, and the origin of requests that change something."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        headers, path = request.headers, scope["path"]
        needed, request.state.principal = scope_of(path), ANYONE
        try:
            if needed is not None:
                authorization = headers.getlist("authorization")
                principal = self._gate.check_key(needed, path, authorization)
                request.state.principal = principal
                self._gate.check_request(principal)
            if scope["method"] not in SAFE:
                self._gate.check_origin(headers.getlist("origin"), headers.getlist("host"))
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class CorsLayer(CORSMiddleware):
    """Starlette's CORS, whose refusals of a preflight request say what to do."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            reason = f"origin_forbidden: add {origin[:200]} to server.origins"
        elif request_headers["access-control-request-method"] not in self.allow_methods:
            reason = f"pages of other origins may use {', '.join(self.allow_methods)} only"
        else:
            known = ", ".join(name.title() for name in self.allow_headers)
            reason = f"pages of other origins may send only the headers {known}"
        refusal = Refusal(HTTPStatus.FORBIDDEN, reason, headers={"Vary": "Origin"})
        return refused(refusal)


class _Stalled(Exception):
    """The client accepts no data."""


class _Exchange:
    """One request and its response on their way through the outermost layer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = Request(scope)
        self.started = False
        """True if the response has begun."""
        self._scope = scope
        self._receive = receive
        self._send = send
        headers = self.request.headers
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._awaits_100 = headers.get("expect", "").lower() == "100-continue"
        self._text: bytes | None = None
        """Body so far of an error that is not JSON yet."""
        self._start: Message = {}

    async def receive(self) -> Message:
        self._awaits_100 = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = dict(message["headers"])
            if message["status"] >= 400 and headers.get(b"content-type") != JSON.encode():
                self._start, self._text = message, b""
                return
            await self._begin(message)
        elif self._text is None:
            await self._continue(message)
        else:
            self._text += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_as_json(self._text.decode())

    async def abort(self) -> None:
        """Abort the connection, and wait for its end, so that uvicorn logs no error."""
        abort = self._scope.get("state", {}).get("abort")
        if abort is not None:
            abort()
            try:
                async with asyncio.timeout(ABORT_S):
                    while (await self._receive())["type"] != "http.disconnect":
                        pass
            except TimeoutError:
                log.warning("connection did not end")

    async def _send_as_json(self, text: str) -> None:
        """Send an error of Starlette's, which is plain text."""
        body = error_body((text or HTTPStatus(self._start["status"]).phrase).lower())
        replaced = (b"content-type", b"content-length")
        headers = [item for item in self._start["headers"] if item[0] not in replaced]
        length = str(len(body)).encode()
        headers += [(b"content-type", JSON.encode()), (b"content-length", length)]
        await self._begin({**self._start, "headers": headers})
        await self._continue({"type": "http.response.body", "body": body})

    async def _begin(self, message: Message) -> None:
        headers = [*message["headers"], *common_headers()]
        if self._unread:
            headers.append((b"connection", b"close"))
        await self._pass_on({**message, "headers": headers})

    async def _continue(self, message: Message) -> None:
        if self._unread and not self._awaits_100 and not message.get("more_body", False):
            # Closed at once, a client that still sends might lose the response.
            await self._pass_on({**message, "more_body": True})
            await self._discard_body()
            message = {"type": "http.response.body", "body": b""}
        await self._pass_on(message)

    async def _discard_body(self) -> None:
        try:
            async with asyncio.timeout(UNREAD_S):
                while self._unread:
                    await self.receive()
        except TimeoutError:
            pass

    async def _pass_on(self, message: Message) -> None:
        try:
            async with asyncio.timeout(STALL_S):
                await self._send(message)
        except TimeoutError:
            raise _Stalled from None


def refused(refusal: Refusal) -> Response:
    """Return the response to a request that is refused."""
    return Response(refusal.body, refusal.status, refusal.headers)


def _check_target(scope: Scope) -> None:
    if len(scope["path"]) + len(scope["query_string"]) > MAX_TARGET:
        raise Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the path and query have more than {MAX_TARGET} bytes; shorten them",
        )
