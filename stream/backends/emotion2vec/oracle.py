"""FunASR's own model, as the reference to compare with; the server never imports this."""

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
    """Return FunASR's AutoModel of a model directory; leave the process unchanged."""
    with _process_preserved():
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
def _process_preserved() -> Iterator[None]:
    """Undo what FunASR changes in the process, from its import to the built model.

    It prints, seeds every generator with 0, sets the thread count, configures root logging and
    turns off all warnings. Inside, warnings are ignored, never raised: where warnings are errors,
    FunASR would swallow them on import and continue without the component that warned.
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
