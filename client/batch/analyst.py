"""What turns recordings into results: the interface of the two ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stream.protocol.messages import FileOptions

Tell = Callable[[str, float], None]
"""Takes the stage and how much of it is done, 0 to 1."""

Result = dict[str, Any]


class Unusable(Exception):
    """A recording that gave no result; `code` is the error's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Done:
    """A result in a folder of its own; `notes` are the warnings on the way."""

    folder: Path
    result: Result
    notes: tuple[str, ...]


class Analyst(Protocol):
    """Whoever turns recordings into results."""

    @property
    def model(self) -> str:
        """Id and revision of the model, once `open` is done."""
        ...

    @property
    def where(self) -> str: ...

    async def open(self) -> None: ...

    async def analyse(self, path: Path, options: FileOptions, out: Path, tell: Tell) -> Done:
        """Raises `Unusable` for this recording, `Unreachable` and `Refused` for all of them."""
        ...

    async def close(self) -> None: ...
