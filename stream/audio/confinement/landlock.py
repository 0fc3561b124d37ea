"""Landlock: no file, TCP port, abstract Unix socket or process outside can be reached.

Source: https://docs.kernel.org/userspace-api/landlock.html and <linux/landlock.h>. Files that are
open already, here standard input and output, stay usable.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from stream.audio.confinement.kernel import syscall

CREATE_RULESET: Final = 444
RESTRICT_SELF: Final = 446
"""Numbers of the system calls, the same on every processor."""

_CREATE_RULESET_VERSION = 1

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Version of the interface → number of rights on files; 16 from version 5 on.

Version 2 adds renaming between folders, 3 truncation, 5 ioctl on devices.
"""
_TCP_VERSION, _TCP_RIGHTS = 4, 0b11
_SCOPE_VERSION, _SCOPES = 6, 0b11
"""Version from which TCP (bind, connect), and abstract sockets and signals, are covered."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def version() -> int:
    """Return the version of the kernel's interface. Raises `OSError` if it has none."""
    return syscall(CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)


def restrict() -> str:
    """Refuse everything that the kernel's version covers; return what that is.

    Needs no new privileges to be set. Raises `OSError`.
    """
    found = version()
    ruleset = _Ruleset((1 << _FILE_RIGHTS.get(found, 16)) - 1, 0, 0)
    covered = ["files"]
    if found >= _TCP_VERSION:
        ruleset.tcp = _TCP_RIGHTS
        covered.append("TCP")
    if found >= _SCOPE_VERSION:
        ruleset.scopes = _SCOPES
        covered.append("abstract sockets, signals")
    # Fields that an older kernel does not know are zero, which it accepts.
    descriptor = syscall(
        CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0
    )
    try:
        syscall(RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
    return f"version {found}: {', '.join(covered)}"
