"""The HTTP application: page, health, metrics, streams, recordings, history, tokens, contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.protocol.errors import ProtocolError
from stream.protocol.wire.groups import GroupList
from stream.recordings.store import ResultStore
from stream.server.access.auth import TICKET_S
from stream.server.access.gate import RESULTS, Gate, Refusal, over_quota, upgrade_required
from stream.server.http.feedback_requests import FeedbackRequests
from stream.server.http.file_requests import FileRequests
from stream.server.http.history_requests import HistoryRequests
from stream.server.http.middleware import AccessLayer, CommonLayer, CorsLayer, refused
from stream.server.http.requests import Endpoint, principal_of
from stream.server.http.static_files import CLIENT, CONTRACTS, PAGE, Downloads, fixed_file
from stream.server.responses import Json
from stream.tenants import Principal

Document = Callable[[], tuple[HTTPStatus, Any]]
"""Returns the status and body of a JSON document."""

METHODS = ("GET", "POST", "DELETE")
HEADERS = ("Authorization", "Content-Type")
"""Methods and headers that pages of other origins may use, if they are in `server.origins`."""

EXPOSED = ("Content-Disposition", "Content-Range", "Location", "Retry-After", "WWW-Authenticate")
"""Headers of responses that their scripts may read."""


class Http:
    """Builds the application; `documents` maps a path to what makes its JSON."""

    def __init__(
        self,
        gate: Gate,
        documents: Mapping[str, Document],
        hub: Hub,
        metrics: Callable[[], bytes],
        store: ResultStore | None,
        max_downloads: int,
        files: FileRequests | None = None,
        groups: Callable[[Principal], GroupList] = lambda principal: {"groups": []},
        feedback: FeedbackRequests | None = None,
        history: HistoryRequests | None = None,
    ) -> None:
        self._gate = gate
        self._documents = documents
        self._hub = hub
        self._metrics = metrics
        self._downloads = None if store is None else Downloads(store, max_downloads)
        self._files = files
        self._groups = groups
        self._feedback = feedback
        self._history = history

    def app(self) -> ASGIApp:
        """Return the ASGI application with all layers around it."""
        inner = Starlette(routes=self.routes())
        inner.add_exception_handler(HTTPException, _http_error)
        inner.add_exception_handler(Refusal, _refused)
        # Not a mount: that would match every path, and hide what other routes allow.
        inner.router.default = PAGE
        inner.router.redirect_slashes = False
        app: ASGIApp = AccessLayer(inner, self._gate)
        # Around the access layer: a preflight request has no key.
        app = CorsLayer(app, self._gate.origins, METHODS, HEADERS, expose_headers=EXPOSED)
        return CommonLayer(app, self._gate)

    def routes(self) -> list[Route]:
        """Return all routes besides the page. Their endpoints run on the event loop."""
        files = self._files.routes() if self._files is not None else []
        feedback = self._feedback.routes() if self._feedback is not None else []
        history = self._history.routes() if self._history is not None else []
        # The page is at "/", where clients of Vosk and FunASR connect.
        taken = {"/", *(route.path for route in files)}
        routes = [
            Route("/healthz", _healthy),
            Route("/metrics", self._get_metrics),
            Route("/v1/token", self._token, methods=["POST"]),
            Route("/v1/groups", self._get_groups),
            Route("/v1/streams", self._get_streams),
            Route("/v1/streams/{stream_id}", self._get_stream),
            Route("/v1/streams/{stream_id}/frames", self._get_frames),
            *(Route(path, _document(make)) for path, make in self._documents.items()),
            *(Route(path, fixed_file(file)) for path, file in CONTRACTS.items()),
            Route("/client.js", fixed_file(CLIENT)),
            *(Route(path, _get_websocket) for path in self._gate.websockets if path not in taken),
            *files,
            *feedback,
            *history,
        ]
        if self._downloads is not None:
            routes.append(Route(RESULTS + "{result_id}/{name}", self._downloads.respond))
        return routes

    async def _get_metrics(self, request: Request) -> Response:
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _find(self, request: Request) -> LiveStream:
        tenant = request.query_params.get("tenant", "")
        stream_id: str = request.path_params["stream_id"]
        stream = self._hub.find(principal_of(request), stream_id, tenant)
        if stream is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no live stream has this id")
        return stream

    async def _get_stream(self, request: Request) -> Response:
        several = principal_of(request).watches_others
        return Json(self._find(request).snapshot(several))

    async def _get_streams(self, request: Request) -> Response:
        principal = principal_of(request)
        streams = self._hub.visible(principal)
        return Json({"streams": [s.snapshot(principal.watches_others) for s in streams]})

    async def _get_groups(self, request: Request) -> Response:
        return Json(self._groups(principal_of(request)))

    async def _get_frames(self, request: Request) -> Response:
        return Json({"channels": self._find(request).frames()})

    async def _token(self, request: Request) -> Response:
        """Exchange a key for a ticket, with which a browser opens one WebSocket."""
        authenticator = self._gate.authenticator
        key = authenticator.key(" ".join(request.headers.getlist("authorization")))
        if authenticator.open:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED, "this server requires no key; connect without a ticket"
            )
        if key is None:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized: unknown key; check the Authorization header",
            )
        try:
            ticket = authenticator.ticket(key)
        except ProtocolError as error:
            raise over_quota(error) from None
        scopes = [*key.scopes]
        body = {"ticket": ticket, "expires_s": TICKET_S, "scopes": scopes, "tenant": key.tenant}
        return Json(body)


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _document(make: Document) -> Endpoint:
    async def respond(request: Request) -> Response:
        status, body = make()
        return Json(body, status)

    return respond


async def _get_websocket(request: Request) -> Response:
    raise upgrade_required(request.url.path)


# Starlette passes a handler errors of the type it was added for, and types them all Exception.
async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    status = HTTPStatus(error.status_code)
    return refused(Refusal(status, error.detail.lower(), headers=headers))
