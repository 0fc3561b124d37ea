"""Durability of files: names in a folder that must outlast a power failure. Blocking."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Write the names in a folder to the disk, as far as the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
