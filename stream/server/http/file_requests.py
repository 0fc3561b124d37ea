"""Recordings over HTTP: POST, GET and DELETE on /v1/files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stream.config import Config
from stream.protocol.errors import ProtocolError
from stream.protocol.file_requests import parse_file_query, parse_wait
from stream.quotas import Quotas
from stream.recordings import messages
from stream.recordings.background import BackgroundJob, BackgroundJobs
from stream.server.access.gate import FILES, Busy, Refusal, upgrade_required
from stream.server.http.file_bodies import Disconnected, RequestBody, receive
from stream.server.http.requests import Endpoint, principal_of, query_of
from stream.server.process.lifecycle import Lifecycle, Phase
from stream.server.responses import Json
from stream.telemetry.metrics import Metrics
from stream.tenants import Principal
from stream.types import Body

STATUS = {
    "invalid_message": HTTPStatus.BAD_REQUEST,
    "agent_channel_forbidden": HTTPStatus.FORBIDDEN,
    "disclosure_required": HTTPStatus.FORBIDDEN,
    "idle_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "quota_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "cancelled": HTTPStatus.CONFLICT,
    "file_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "disk_full": HTTPStatus.INSUFFICIENT_STORAGE,
}
"""HTTP status by error code; 422 for all others, which are faults of the file or its options."""


class FileRequests:
    """The endpoints of recordings over HTTP.

    `jobs` returns None until the model is loaded, `busy` the reason for which no recording is
    accepted now from a principal.
    """

    def __init__(
        self,
        config: Config,
        lifecycle: Lifecycle,
        metrics: Metrics,
        jobs: Callable[[], BackgroundJobs | None],
        busy: Callable[[Principal], Busy | None],
        quotas: Quotas,
    ) -> None:
        self._config = config
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._jobs = jobs
        self._busy = busy
        self._quotas = quotas

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(FILES, self._guard(self._files), methods=["GET", "POST"]),
            Route(FILES + "/{file_id}", self._guard(self._file), methods=["GET", "DELETE"]),
        ]

    def _guard(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint whose `ProtocolError`s become responses."""

        async def guarded(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ProtocolError as error:
                self._metrics.refused(error.code)
                return _response(messages.failure(error), error)
            except Disconnected:
                return Response()

        return guarded

    async def _files(self, request: Request) -> Response:
        if request.method != "POST":
            raise upgrade_required(FILES, "; to send a recording in one request, use POST")
        principal = principal_of(request)
        jobs = self._available(principal)
        query = parse_file_query(query_of(request))
        files = self._config.files
        body = RequestBody(
            request,
            files.max_mb,
            self._config.limits.idle_timeout_s,
            files.upload_timeout_s,
            partial(self._quotas.bytes_received, principal),
        )
        async with jobs.receive(principal) as reception:
            options = await receive(body, query, reception, jobs.services)
            job = jobs.start(reception, options)
        try:
            await _wait(job, query.wait, request)
        except BaseException:
            # The client has not received the id, so nothing will ask for the result.
            await jobs.remove(job)
            raise
        return self._answer(jobs, job, {"Location": f"{FILES}/{job.id}"})

    def _available(self, principal: Principal) -> BackgroundJobs:
        """Return the jobs if one more is accepted. Raises `Refusal`."""
        jobs = self._jobs()
        if jobs is None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the model is loading", 2)
        if self._lifecycle.phase is not Phase.SERVING or jobs.closed is not None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "draining", 5)
        busy = self._busy(principal)
        if busy is not None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, *busy)
        return jobs

    def _answer(
        self, jobs: BackgroundJobs, job: BackgroundJob, headers: dict[str, str]
    ) -> Response:
        """Return the response to a request that sent a recording and may have waited."""
        if jobs.closed is not None:
            raise jobs.closed
        if job.error is not None:
            return _response(job.body(), job.error, headers)
        status = HTTPStatus.OK if job.ended.is_set() else HTTPStatus.ACCEPTED
        return Json(job.body(), status, headers)

    async def _file(self, request: Request) -> Response:
        jobs = self._jobs()
        job = jobs.find(request.path_params["file_id"], principal_of(request)) if jobs else None
        if jobs is None or job is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "unknown or expired recording")
        if request.method == "DELETE":
            await (jobs.remove(job) if job.ended.is_set() else jobs.cancel(job))
            return Response(status_code=HTTPStatus.NO_CONTENT)
        await _wait(job, parse_wait(query_of(request)), request)
        if jobs.closed is not None:
            raise jobs.closed
        return Json(job.body())


async def _wait(job: BackgroundJob, seconds: float, request: Request) -> None:
    """Wait until the recording ends, at most `seconds`. Raises `Disconnected`."""
    if not seconds or job.ended.is_set():
        return
    ended = asyncio.ensure_future(job.ended.wait())
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({ended, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not ended.done():
            raise Disconnected
    finally:
        ended.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(body: Body, error: ProtocolError, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(round(error.retry_after_s))
    return Json(body, STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY), headers)
