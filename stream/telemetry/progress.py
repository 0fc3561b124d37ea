"""Progress of startup, while the model loads and warms up."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 5.0
"""Seconds between two log lines."""


class StartProgress:
    """Context manager that shows progress: a bar on a terminal, log lines elsewhere.

    While the model loads there is a log line and no bar, because a hub's client draws its own bar
    for a download.
    """

    def __init__(self, model: str, terminal: bool | None = None) -> None:
        self._model = model
        self._bar: Progress | None = None
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._next_log = 0.0

    def __enter__(self) -> StartProgress:
        log.info("loading the model", extra={"model": self._model})
        self._next_log = time.monotonic() + LOG_INTERVAL_S
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, shape: str, done: int, shapes: int) -> None:
        """Show that `done` of `shapes` are warmed up and `shape` is next.

        `shapes` is 0 while the model loads.
        """
        if self._terminal and shapes:
            self._draw(shape, done, shapes)
        elif time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + LOG_INTERVAL_S
            details = {"shape": shape, "done": f"{done}/{shapes}"} if shapes else {}
            log.info("warming up" if shapes else "still loading the model", extra=details)

    def _draw(self, shape: str, done: int, shapes: int) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("warming up"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=Console(stderr=True, force_terminal=True),
                transient=True,
            )
            self._bar.add_task(shape, total=shapes)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], description=shape, completed=done)
