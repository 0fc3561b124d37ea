"""Namespaces of the decoder process: no network, and no sight of other processes.

Source: namespaces(7), user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final, NoReturn

from stream.audio.confinement.kernel import PR_SET_PDEATHSIG, prctl, unshare

NEW_USER: Final = 0x10000000
NEW_PID: Final = 0x20000000
NEW_NETWORK: Final = 0x40000000
NEW_IPC: Final = 0x08000000
"""Flags of unshare(2), from <linux/sched.h>."""

NAMES: Final = {"user": NEW_USER, "PID": NEW_PID, "network": NEW_NETWORK, "IPC": NEW_IPC}

_FIRST = NEW_PID | NEW_NETWORK | NEW_IPC


def separate() -> int:
    """Continue in a child process with its own namespaces, if permitted; return their flags.

    This process waits for the child, exits as it does, and holds no file meanwhile. The child is
    the first process of its PID namespace. Call it before anything large is imported, which would
    make the fork slow, and before any thread is started.
    """
    # A user namespace permits the others to a user without rights. It takes the rights of root, who
    # may need them to import the rest of the program, and enters it in `complete`.
    flags = _FIRST if os.geteuid() == 0 else _FIRST | NEW_USER
    try:
        unshare(flags)
    except OSError:
        return 0
    die_with_parent()
    child = os.fork()
    if child:
        _follow(child)
    die_with_parent()
    return flags


def complete(entered: int) -> tuple[int, str]:
    """Enter the namespaces that `separate` left out, as far as a running process can.

    Return the flags of all, and the reason for those that are missing.
    """
    reason = "a process enters it when it starts"
    missing = [flag for flag in NAMES.values() if not entered & flag and flag != NEW_PID]
    for flags in (sum(missing), *missing):
        if flags and not entered & flags:
            try:
                unshare(flags)
                entered |= flags
            except OSError as error:
                reason = str(error.strerror)
    die_with_parent()
    return entered, reason


def die_with_parent() -> None:
    """End this process when its parent ends; a change of rights clears this."""
    with suppress(OSError):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _follow(child: int) -> NoReturn:
    """Wait for a child, and exit with its status or by its signal."""
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
