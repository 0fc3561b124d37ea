"""Health of the process: readiness for the load balancer, lag of the event loop, hung models."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from http import HTTPStatus

from stream.config import ModelConfig
from stream.inference.scheduler import Scheduler
from stream.server.process.lifecycle import Lifecycle, Phase
from stream.telemetry.metrics import Metrics
from stream.types import Body

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.25

EXIT_HANG = 70


class Health:
    """Readiness of one process, and the watch over its event loop and its model."""

    def __init__(
        self, config: ModelConfig, lifecycle: Lifecycle, scheduler: Scheduler, metrics: Metrics
    ) -> None:
        self._config = config
        self._lifecycle = lifecycle
        self._scheduler = scheduler
        self._schedulers = [scheduler]
        self._metrics = metrics

    def add(self, scheduler: Scheduler) -> None:
        """Watch another scheduler, that of recordings; a hang of it ends the process as well."""
        self._schedulers.append(scheduler)

    def readiness(self) -> tuple[HTTPStatus, Body]:
        """Return the status and the body of `/readyz`."""
        if self._lifecycle.phase is Phase.LOADING:
            model = f"warming up, {self._scheduler.warm_up.share:.0%}"
        else:
            troubles = [scheduler.trouble for scheduler in self._schedulers]
            model = next((trouble for trouble in troubles if trouble), "ok")
        draining = self._lifecycle.draining
        ready = model == "ok" and not draining
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, {"ready": ready, "checks": {"model": model, "draining": draining}}

    async def watch(self) -> None:
        """Measure the event loop's lag; exit the process if inference hangs for too long."""
        while True:
            due = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
            self._metrics.loop_tasks.set(len(asyncio.all_tasks()))
            limit_s = self._config.exit_after_hang_s
            for scheduler in self._schedulers:
                scheduler.watch()
                if scheduler.hang_is_fatal and scheduler.busy_s() > limit_s:
                    log.critical("inference hung; exiting for restart", extra={"limit_s": limit_s})
                    os._exit(EXIT_HANG)
