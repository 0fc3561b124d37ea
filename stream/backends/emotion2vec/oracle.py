"""FunASR's own way from a directory to scores, to compare with; nothing that serves imports it."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np


def auto_model(directory: Path, threads: int = 1, device: str = "cpu") -> Any:
    """FunASR's AutoModel of a model directory; leaves the process as it was."""
    with _contained():
        from funasr import AutoModel

        return AutoModel(
            model=str(directory),
            device=device,
            ncpu=threads,
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )


@contextmanager
def _contained() -> Iterator[None]:
    """Keep to itself what FunASR does to the process, from its import to a built model.

    It prints, seeds every generator with 0, sets the thread count, configures root logging and
    turns off all warnings. None is raised inside either: where warnings are errors, FunASR would
    swallow them on import and go on without the part that warned.
    """
    import torch

    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            torch.random.fork_rng(devices=()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads(threads)
        root.setLevel(level)
        root.handlers[:] = handlers
