"""Parts of requests that several endpoints read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from stream.protocol.parsing import Query
from stream.tenants import Principal

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def principal_of(request: Request) -> Principal:
    """Return who sends a request, as the access layer found out."""
    principal: Principal = request.state.principal
    return principal


def query_of(request: Request) -> Query:
    """Return the query of a request; a parameter without a value has an empty one."""
    return parse_qs(request.url.query, keep_blank_values=True)
