"""Runs a sink for the life of the process, whatever happens in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stream.delivery.sink import Sink

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""Shortest and longest wait before a sink that failed is started again."""


async def keep_running(sink: Sink, failed: Callable[[str], None]) -> None:
    """Run a sink until it returns, which it does after `stop`, or until cancelled.

    If it raises, log that, report it to `failed` with the sink's class name, and run it again with
    increasing delays.
    """
    name, retry_s = type(sink).__name__, FIRST_RETRY_S
    while True:
        began = time.monotonic()
        try:
            await sink.run()
            return
        except Exception as error:
            failed(name)
            if time.monotonic() - began > LAST_RETRY_S:
                retry_s = FIRST_RETRY_S
            log.error("sink failed", exc_info=error, extra={"sink": name, "retry_s": retry_s})
        await asyncio.sleep(retry_s)
        retry_s = min(2 * retry_s, LAST_RETRY_S)
