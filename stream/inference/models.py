"""The models of one process: that of live streams, and that of recordings; load and warm up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stream.config import Config
from stream.errors import ConfigError, ModelRefused
from stream.inference.engine import Engine
from stream.inference.scheduler import BatchReport, Scheduler
from stream.telemetry.progress import StartProgress
from stream.types import ModelInfo, from_ms

log = logging.getLogger(__name__)


class Models:
    """The schedulers of one process; `recordings` is `live` unless recordings have their own.

    `recordings_engine` gets the model of live streams, and returns the engine of recordings; None
    means that recordings use the live one. Every batch of both is passed to `report`.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        recordings_engine: Callable[[ModelInfo], Engine | None] = lambda live: None,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._recordings_engine = recordings_engine
        self._report = report
        self.live = self._scheduler(engine)
        self.recordings = self.live

    async def load(self) -> tuple[ModelInfo, ModelInfo]:
        """Load and warm up; return the model of live streams and that of recordings.

        Raises `ConfigError` and `ModelRefused`.
        """
        live = await self._start(self.live, self._config.model.name)
        recordings = await self._load_for_recordings(live)
        for model in (live, recordings):
            self._check_features(model)
        return live, recordings

    async def stop(self, timeout_s: float) -> None:
        """End each scheduler after the batches that run, within `timeout_s` seconds each."""
        for scheduler in {self.live, self.recordings}:
            await scheduler.stop(timeout_s)

    @property
    def alive(self) -> bool:
        """True while native code of a model runs in this process."""
        return self.live.alive or self.recordings.alive

    def _scheduler(self, engine: Engine) -> Scheduler:
        config = self._config.model
        return Scheduler(engine, config.max_wait_ms / 1000, config.hang_timeout_s, self._report)

    async def _load_for_recordings(self, live: ModelInfo) -> ModelInfo:
        """Return the model of recordings, which is `live` if they have none of their own."""
        engine = self._recordings_engine(live) if self._config.files.enabled else None
        if engine is None:
            return live
        scheduler = self._scheduler(engine)
        try:
            model = await self._start(scheduler, "recordings")
        except ModelRefused as refusal:
            if self._config.model.recordings != "auto":
                raise
            log.warning("recordings use the live model", extra={"reason": str(refusal)})
            return live
        self.recordings = scheduler
        return model

    async def _start(self, scheduler: Scheduler, name: str) -> ModelInfo:
        """Load and warm up one model, and show the progress."""
        lengths = [from_ms(ms) for ms in self._config.windows.lengths_ms or ()]
        loading = asyncio.create_task(scheduler.start(lengths))
        try:
            with StartProgress(name) as report:
                done: set[asyncio.Task[ModelInfo]] = set()
                while not done:
                    done, _ = await asyncio.wait({loading}, timeout=0.1)
                    warm_up = scheduler.warm_up
                    report.update(warm_up.shape, warm_up.done, warm_up.shapes)
        finally:
            loading.cancel()
        try:
            return loading.result()
        except (ModelRefused, ConfigError):
            raise
        except Exception as error:
            # Any exception of a model's libraries becomes one line and an exit status.
            log.debug("model loading failed", exc_info=True)
            raise ModelRefused(
                f"model {name} cannot run: {type(error).__name__}: {error}"
            ) from error

    def _check_features(self, model: ModelInfo) -> None:
        """Raise `ConfigError` if feedback is on and the model has no features to store."""
        if self._config.feedback.enabled and not model.dim:
            raise ConfigError(
                f"feedback.enabled: model {model.id} has no embeddings, so nothing could be "
                "stored: choose another model, or turn feedback off"
            )
