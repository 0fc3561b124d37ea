"""Files of a result and the folder that holds them. Imports no other package."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from stream.terms import RESULT_FILES

NAMES = RESULT_FILES
RESULT, FRAMES, EMBEDDING, UTTERANCES, AUDIO = NAMES


def new_folder(root: Path, now: float) -> Path:
    """Create `outputs_YYYYMMDD_HHMMSS` in `root`, with a number appended if it exists.

    `now` is Unix time in seconds. The name is local time, because people search by it. Raises
    `OSError`.
    """
    root.mkdir(parents=True, exist_ok=True)
    name = time.strftime("outputs_%Y%m%d_%H%M%S", time.localtime(now))
    for number in range(1, 100_000):
        folder = root / (name if number == 1 else f"{name}_{number}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise FileExistsError(f"{root}: too many folders with the same second")
