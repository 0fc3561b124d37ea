"""Modules that libraries would import during the first call or request, imported at the start.

An import on the event loop reads the disk while every stream waits, and it fails when the process
has no file descriptor left.
"""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "anyio._backends._asyncio",
    "encodings.ascii",
    "encodings.idna",
    "numpy.fft",
)


def preload() -> None:
    """Import them."""
    for name in MODULES:
        import_module(name)
