"""Measurement of the event loop's time that a coroutine takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send


class Metered:
    """Awaits a coroutine; `spent` gets the seconds of each of its steps, not of its waits."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], spent: Callable[[float], None]) -> None:
        self._coroutine = coroutine
        self._spent = spent

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        raised: BaseException | None = None
        while True:
            begin = time.perf_counter()
            try:
                waits_for = steps.send(None) if raised is None else steps.throw(raised)
            except StopIteration as stop:
                return stop.value
            finally:
                self._spent(time.perf_counter() - begin)
            raised = None
            try:
                yield waits_for
            except BaseException as error:
                raised = error


class MeteredLayer:
    """Charges the time of each HTTP request to its connection; see `http_protocol`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        charge = scope.get("state", {}).get("charge", lambda seconds: None)
        await Metered(_call(self._app, scope, receive, send), charge)


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
