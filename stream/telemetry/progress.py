"""What a start says of itself while the model loads and warms up."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0


class StartProgress:
    """A bar on a terminal, a log line now and then elsewhere. Used as a context manager.

    While the model loads there is a line and no bar: a hub's client draws its own if it downloads.
    """

    def __init__(self, model: str, terminal: bool | None = None) -> None:
        self._model = model
        self._bar: Progress | None = None
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._line_at = 0.0

    def __enter__(self) -> StartProgress:
        log.info("loading the model", extra={"model": self._model})
        self._line_at = time.monotonic() + LINE_EVERY_S
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
        """`done` of `shapes` are warmed up, `shape` is next; 0 of 0 while the model loads."""
        if self._terminal and shapes:
            self._draw(shape, done, shapes)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_S
            doing = {"shape": shape, "done": f"{done}/{shapes}"} if shapes else {}
            log.info("warming up" if shapes else "still loading the model", extra=doing)

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
