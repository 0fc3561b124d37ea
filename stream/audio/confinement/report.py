"""Start of confined processes, and a report on the levels that this machine permits."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stream.audio.confinement.levels import Level

ROOT = Path(__file__).resolve().parents[3]

_PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")

_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


def environment(source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a confined process: nothing of the server's configuration."""
    env = {name: source[name] for name in _PASSED_ON if name in source}
    return env | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of this program."""
    return [sys.executable, "-P", "-m", module, *arguments]


def measure() -> list[Level]:
    """Confine a process as the decoder is, and return the levels; takes a tenth of a second.

    Raises `OSError` if the process fails.
    """
    try:
        result = subprocess.run(
            command("stream.audio.confinement"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=_TIMEOUT_S,
            check=True,
        )
        return [Level(**fields) for fields in json.loads(result.stdout)]
    except (subprocess.SubprocessError, ValueError, TypeError) as error:
        raise OSError(f"a confined process does not run: {error}") from None


def log_levels() -> None:
    """Log the levels of the decoder's confinement, and those that are missing with the reason."""
    try:
        levels = measure()
    except OSError as error:
        log.error("decoder confinement unknown", extra={"reason": str(error)})
        return
    log.info("decoder confined", extra={"by": [level.name for level in levels if level.active]})
    missing = {level.name: level.detail for level in levels if not level.active}
    if missing:
        log.warning(
            "decoder confinement incomplete; see docs/security.md", extra={"missing": missing}
        )
