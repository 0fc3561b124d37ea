"""System calls that Python has no function for. Linux only; raises `OSError` with the reason."""

from __future__ import annotations

import ctypes
import os
import signal
from functools import cache
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
"""Options of prctl(2), from <linux/prctl.h>."""

_CAPABILITY_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words per set (capset(2))."""


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call; integers are passed as machine words, the rest as ctypes objects."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *words))


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2))."""
    _checked(_libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def unshare(flags: int) -> None:
    """Leave namespaces of the parent for new ones (unshare(2))."""
    _checked(_libc().unshare(flags))


def drop_capabilities() -> None:
    """Clear the effective, permitted and inheritable capabilities (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(_libc().capset(header, (ctypes.c_uint32 * 6)()))


def exit_on(number: signal.Signals) -> None:
    """Let a signal end the process with its number as the exit status, without Python code.

    A Python handler would wait for the native code that the signal is to interrupt, and the
    default action does not exist for the first process of a PID namespace (pid_namespaces(7)).
    """
    handler = ctypes.cast(_libc()._exit, ctypes.c_void_p)
    _libc().signal.restype = ctypes.c_void_p
    _libc().signal(int(number), handler)
