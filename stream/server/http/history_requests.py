"""History over HTTP: GET and DELETE on /v1/history."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stream.history.queries.filters import Filter, Position
from stream.protocol.errors import ProtocolError
from stream.protocol.history import (
    ErasureQuery,
    ExportQuery,
    HistoryQuery,
    ListQuery,
    SummaryQuery,
    parse_history,
)
from stream.recordings import messages
from stream.server.access.gate import HISTORY, Refusal
from stream.server.http.requests import Endpoint, principal_of, query_of
from stream.server.responses import Json
from stream.telemetry.audit import AuditLog
from stream.tenants import ANY, Principal

if TYPE_CHECKING:
    from stream.history.service import History
    from stream.history.storage.erasure import Selection, SelectionKind

Filtering = TypeVar("Filtering", bound=HistoryQuery)

MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


class HistoryRequests:
    """The endpoints of the history, which is None while it is off.

    A key sees the sessions of its tenant and of those that it watches. It erases those of its own
    tenant only. `tenants` are those of the configuration.
    """

    def __init__(self, history: History | None, audit: AuditLog, tenants: Sequence[str]) -> None:
        self._history = history
        self._audit = audit
        self._tenants = tenants
        self._erasing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = HISTORY + "/{session_id}"
        return [
            Route(HISTORY, _guarded(self._list), methods=["GET"]),
            Route(HISTORY, _guarded(self._erase_many), methods=["DELETE"]),
            Route(HISTORY + "/summary", _guarded(self._summarise), methods=["GET"]),
            Route(HISTORY + "/export", _guarded(self._export), methods=["GET"]),
            Route(one, _guarded(self._show), methods=["GET"]),
            Route(one, _guarded(self._erase_one), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        reader = self._enabled().reader
        query, wanted = self._filter(ListQuery, request)
        after = None if query.cursor is None else Position.of(query.cursor)
        return Json(await reader.page(wanted, query.limit, after))

    async def _summarise(self, request: Request) -> Response:
        reader = self._enabled().reader
        query, wanted = self._filter(SummaryQuery, request)
        return Json(await reader.summary(wanted, query.by, query.zone))

    async def _export(self, request: Request) -> Response:
        reader = self._enabled().reader
        query, wanted = self._filter(ExportQuery, request)
        name = f"history-{query.rows}.{query.format}"
        headers = {
            "Cache-Control": "private, no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        if request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA[query.format])
        pieces = await reader.export(wanted, query.rows, query.format)
        self._record(request, "history.export", rows=query.rows)
        return StreamingResponse(pieces, headers=headers, media_type=MEDIA[query.format])

    async def _show(self, request: Request) -> Response:
        reader = self._enabled().reader
        session_id = request.path_params["session_id"]
        found = await reader.one(session_id, _visible(principal_of(request)))
        if found is None:
            raise _unknown()
        self._record(request, "history.show", session=found["id"], of=found["tenant"])
        return Json(found)

    async def _erase_one(self, request: Request) -> Response:
        if not await self._erase(request, "session", request.path_params["session_id"]):
            raise _unknown()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _erase_many(self, request: Request) -> Response:
        self._enabled()
        query = parse_history(ErasureQuery, query_of(request))
        if query.stream is not None:
            erased = await self._erase(request, "stream", query.stream)
        elif query.attribute is not None:
            erased = await self._erase(request, "attribute", query.attribute)
        else:
            own = principal_of(request).tenant
            if query.tenant != own:
                raise Refusal(
                    HTTPStatus.FORBIDDEN,
                    f"tenant: this key erases sessions of its own tenant, {own}, only",
                )
            erased = await self._erase(request, "tenant")
        return Json({"erased": erased})

    async def _erase(self, request: Request, kind: SelectionKind, value: str = "") -> int:
        """Return the number of sessions that were erased; one request after the other."""
        from stream.history.storage.erasure import Selection

        history, principal = self._enabled(), principal_of(request)
        selection = Selection(kind, (principal.tenant,), value)
        async with self._erasing:
            return await asyncio.to_thread(_erased, history, selection, principal)

    def _enabled(self) -> History:
        """Return the history. Raises `Refusal` while it is off."""
        if self._history is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "history_off: this server keeps no history; its operator can set history.url",
            )
        return self._history

    def _filter(self, model: type[Filtering], request: Request) -> tuple[Filtering, Filter]:
        """Return the query of a request and its filter of sessions that the key may see."""
        principal, query = principal_of(request), parse_history(model, query_of(request))
        if query.tenant is not None and not principal.sees(query.tenant):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"tenant: this key does not see the tenant {query.tenant!r}; leave it out, or use "
                "a key that watches it",
            )
        visible = _visible(principal)

        def stored(stream_id: str) -> frozenset[str]:
            tenants = (query.tenant,) if query.tenant else visible or self._tenants
            identities = self._enabled().identities
            return frozenset({stream_id, *(identities.stream(t, stream_id) for t in tenants)})

        return query, Filter.of(query, visible, stored)

    def _record(self, request: Request, event: str, **details: object) -> None:
        principal = principal_of(request)
        self._audit.record(event, tenant=principal.tenant, key=principal.key or None, **details)


def _visible(principal: Principal) -> frozenset[str] | None:
    """Return the tenants whose sessions a key sees; None: all."""
    return None if ANY in principal.watched else principal.watched | {principal.tenant}


def _erased(history: History, selection: Selection, principal: Principal) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from stream.history.queries.reader import unreadable

    try:
        return history.erase(selection, principal.tenant, principal.key)
    except SQLAlchemyError as error:
        raise unreadable(error) from None


def _unknown() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "no session of this tenant has this id; it may be erased")


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint whose `ProtocolError`s become responses."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ProtocolError as error:
            if error.code != "overloaded":
                return Json(messages.failure(error), HTTPStatus.BAD_REQUEST)
            after = math.ceil(error.retry_after_s or 1)
            headers = {"Retry-After": str(after)}
            return Json(messages.failure(error), HTTPStatus.SERVICE_UNAVAILABLE, headers)

    return guarded
