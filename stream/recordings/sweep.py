"""Periodic removal of expired recordings and their results."""

from __future__ import annotations

import asyncio
import logging

from stream.recordings.background import BackgroundJobs

log = logging.getLogger(__name__)

SWEEP_S = 30.0


async def keep_swept(jobs: BackgroundJobs) -> None:
    """Delete what has expired every `SWEEP_S` seconds, more often if its lifetime is short."""
    services = jobs.services
    pause_s = min(SWEEP_S, max(1.0, services.shared.config.files.keep_hours * 360))
    while True:
        try:
            jobs.sweep()
            await services.disk.run(services.store.sweep)
        except Exception as error:
            # A result that cannot be deleted must not end live streams.
            log.error("expired results not deleted", extra={"reason": str(error)})
        await asyncio.sleep(pause_s)
