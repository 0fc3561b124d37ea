"""Interface of the two analysers of recordings: a server, and this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream.protocol.file_options import FileOptions
from stream.protocol.wire.result import Result

OnProgress = Callable[[str, float], None]
"""Callback with the stage and the share of it that is done, 0 to 1."""


class AnalysisFailed(Exception):
    """A recording without a result; `code` is the error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Analysis:
    """Result of one recording, the folder that holds it, and the warnings of the analysis."""

    folder: Path
    result: Result
    warnings: tuple[str, ...]


class Analyser(Protocol):
    """Analyser of recordings."""

    @property
    def model(self) -> str:
        """Id and revision of the model, after `open`."""
        ...

    @property
    def where(self) -> str:
        """Server or process that analyses, for people."""
        ...

    async def open(self) -> None:
        """Prepare. Raises `Unreachable` and `Refused`, or `ModelRefused` and `ConfigError`."""
        ...

    async def analyse(
        self, path: Path, options: FileOptions, out: Path, on_progress: OnProgress
    ) -> Analysis:
        """Analyse one recording into a new folder in `out`.

        Raises `AnalysisFailed` for this recording, `Unreachable` and `Refused` for the whole batch.
        """
        ...

    async def close(self) -> None: ...
