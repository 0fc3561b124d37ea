"""Labels from listeners over HTTP: POST, GET and DELETE on /v1/feedback."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stream.config import FeedbackConfig
from stream.feedback.export import manifest, zipped
from stream.feedback.mark import Mark
from stream.feedback.recording import read_utterance
from stream.feedback.service import Feedback
from stream.feedback.store import FeedbackStore, StoreFull
from stream.feedback.utterance import MarkableUtterance, Source
from stream.protocol.errors import ProtocolError
from stream.protocol.feedback import (
    DeletionQuery,
    ExportQuery,
    FeedbackRequest,
    parse_feedback,
    parse_query,
)
from stream.recordings import messages
from stream.recordings.disk import DISK_FULL, DiskExecutor
from stream.recordings.store import ResultStore
from stream.result_files import AUDIO
from stream.server.access.gate import FEEDBACK, Refusal
from stream.server.http.requests import Endpoint, principal_of, query_of
from stream.server.responses import Json
from stream.telemetry.audit import AuditLog
from stream.tenants import Principal

log = logging.getLogger(__name__)

BODY_BYTES = 8_192
BODY_S = 10.0
"""Largest body that marks an utterance, and seconds in which it must arrive."""

EXPORTS = 4
"""ZIP files that are sent at a time."""


class FeedbackRequests:
    """The endpoints of feedback, which is None while it is off.

    A tenant's marks are seen and deleted by its own keys only. A recording can be marked by the
    key that sent it, a live stream by every key of its tenant with the scope.
    """

    def __init__(
        self,
        config: FeedbackConfig,
        feedback: Feedback | None,
        results: ResultStore,
        audit: AuditLog,
        disk: DiskExecutor,
    ) -> None:
        self._config = config
        self._feedback = feedback
        self._results = results
        self._audit = audit
        self._disk = disk
        self._exports = 0

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = FEEDBACK + "/{feedback_id}"
        return [
            Route(FEEDBACK, _guarded(self._export), methods=["GET"]),
            Route(FEEDBACK, _guarded(self._mark), methods=["POST"]),
            Route(FEEDBACK, _guarded(self._delete_many), methods=["DELETE"]),
            Route(one, _guarded(self._delete), methods=["DELETE"]),
        ]

    async def _mark(self, request: Request) -> Response:
        store, principal = self._enabled(), principal_of(request)
        wanted = parse_feedback(await _body(request))
        source, found = await self._find(wanted, principal)
        try:
            mark, replaced = await self._disk.run(
                store.add,
                principal.tenant,
                source,
                found,
                wanted.label,
                wanted.speaker or "",
                principal.key,
                time.time(),
            )
        except StoreFull as error:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"{error}: export and delete some, or ask the operator to raise feedback.max_mb",
            ) from None
        self._audit.record(
            "feedback.mark",
            tenant=principal.tenant,
            key=principal.key or None,
            feedback_id=mark.id,
            of=mark.kind,
            source=mark.source,
            replaced=replaced,
            audio=mark.audio,
        )
        return Json(mark.body(), HTTPStatus.OK if replaced else HTTPStatus.CREATED)

    async def _export(self, request: Request) -> Response:
        store, tenant = self._enabled(), principal_of(request).tenant
        as_zip = parse_query(ExportQuery, query_of(request)).format == "zip"
        if as_zip and self._exports >= EXPORTS:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many exports at a time", 5)
        self._record(request, "feedback.export", features=as_zip)
        name = f"feedback-{tenant}.{'zip' if as_zip else 'csv'}"
        headers = {
            "Cache-Control": "private, no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        if as_zip:
            pieces = self._pieces(zipped(store, tenant))
            return StreamingResponse(pieces, headers=headers, media_type="application/zip")
        content = await self._disk.run(_manifest, store, tenant)
        return Response(content, headers=headers, media_type="text/csv; charset=utf-8")

    async def _pieces(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what the thread of the disk reads; other requests go between the pieces."""
        self._exports += 1
        try:
            while piece := await self._disk.run(next, pieces, b""):
                yield piece
        finally:
            self._exports -= 1

    async def _delete(self, request: Request) -> Response:
        store, tenant = self._enabled(), principal_of(request).tenant
        mark_id = request.path_params["feedback_id"]
        if not await self._disk.run(store.delete, tenant, mark_id):
            raise Refusal(HTTPStatus.NOT_FOUND, "unknown or deleted feedback")
        self._record(request, "feedback.delete", feedback_id=mark_id, deleted=1)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _delete_many(self, request: Request) -> Response:
        store, tenant = self._enabled(), principal_of(request).tenant
        query = parse_query(DeletionQuery, query_of(request))
        if query.all:
            deleted = await self._disk.run(store.delete_all, tenant)
            self._record(request, "feedback.delete", of="tenant", deleted=deleted)
            return Json({"deleted": deleted})
        source = (
            Source("stream", query.stream_id)
            if query.stream_id is not None
            else Source("recording", query.recording_id or "")
        )
        deleted = await self._disk.run(store.delete_of, tenant, source)
        self._record(
            request,
            "feedback.delete",
            of=source.kind,
            source=store.source(tenant, source),
            deleted=deleted,
        )
        return Json({"deleted": deleted})

    def _enabled(self) -> FeedbackStore:
        """Return the store. Raises `Refusal` while feedback is off."""
        if self._feedback is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "feedback is off on this server: set feedback.enabled"
            )
        return self._feedback.store

    async def _find(
        self, wanted: FeedbackRequest, principal: Principal
    ) -> tuple[Source, MarkableUtterance]:
        """Return the utterance that a request names. Raises `Refusal`."""
        if wanted.recording_id is not None:
            found = await self._find_in_recording(wanted, principal)
            return Source("recording", wanted.recording_id), found
        assert self._feedback is not None
        assert wanted.stream_id is not None
        stream = (principal.tenant, wanted.stream_id)
        session_id = wanted.session_id or ""
        kept = self._feedback.recent.find(stream, session_id, wanted.channel, wanted.utterance)
        if kept is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "unknown stream or utterance: only the newest utterances of a stream that were "
                "scored can be marked (feedback.recent)",
            )
        return Source("stream", wanted.stream_id, kept[0]), kept[1]

    async def _find_in_recording(
        self, wanted: FeedbackRequest, principal: Principal
    ) -> MarkableUtterance:
        result = self._results.find_recording(wanted.recording_id or "")
        if result is None or not principal.owns(result.owner):
            raise Refusal(HTTPStatus.NOT_FOUND, "unknown or expired recording")
        audio = result.folder / AUDIO if self._config.audio else None
        try:
            found = await self._disk.run(
                read_utterance, result.folder, wanted.channel, wanted.utterance, audio
            )
        except FileNotFoundError:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "the recording was analysed while feedback was off, or deleted: send it again",
            ) from None
        if found is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "unknown utterance, or one in which nothing was scored"
            )
        return found

    def _record(self, request: Request, event: str, **details: object) -> None:
        principal = principal_of(request)
        self._audit.record(event, tenant=principal.tenant, key=principal.key or None, **details)


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint whose `ProtocolError`s and faults of the disk become responses."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ProtocolError as error:
            return Json(messages.failure(error), HTTPStatus.BAD_REQUEST)
        except ClientDisconnect:
            return Response()
        except OSError as error:
            log.error("feedback not accessible", extra={"reason": str(error)})
            if error.errno in DISK_FULL:
                full = "the server's disk is full: try again later, or contact its operator"
                raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, full, 60) from None
            fault = "feedback could not be read or written: contact the operator"
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, fault) from None

    return guarded


async def _body(request: Request) -> bytes:
    """Return the body. Raises `Refusal` if it is too large or late."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_BYTES:
                    raise Refusal(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        f"the body has more than {BODY_BYTES} bytes: send one utterance",
                    )
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_S:g} s"
        ) from None
    return bytes(body)


def _manifest(store: FeedbackStore, tenant: str) -> bytes:
    marks: list[Mark] = list(store.marks(tenant))
    return manifest(marks)
