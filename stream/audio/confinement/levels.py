"""The levels of the confinement, applied in order and reported one by one."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

MAX_DESCRIPTORS = 3
"""Standard input, output and error; the process can open no other file, socket or pipe."""

_CONTAINER = "a container's or a service's filter of system calls may refuse it"


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the confinement; `detail` is what it covers, or why it is missing."""

    name: str
    active: bool
    detail: str


def separate() -> int:
    """Continue in a child process that sees no other process, where the kernel permits it.

    Return a value for `confine`. Call it first, before large modules are imported.
    """
    if sys.platform != "linux":
        return 0
    from stream.audio.confinement import namespaces

    return namespaces.separate()


def confine(memory: int, cpu_s: int, separated: int) -> list[Level]:
    """Confine this process, which must have one thread; return the levels.

    `memory` is the limit of the address space in bytes, `cpu_s` that of the CPU time in seconds:
    at the limit the process ends by SIGXCPU, or with its number as the exit status. `separated` is
    the value of `separate`. Import every module first: no file can be opened afterwards.
    """
    if sys.platform == "win32":
        return [Level("limits", False, "not available on Windows")]
    limits = _level("limits", lambda: _limits(memory, cpu_s))
    if sys.platform != "linux":
        missing = Level("isolation", False, f"not available on {sys.platform}")
        return [limits, _level("open files", _limit_descriptors), missing]
    return [limits, *_isolate(separated)]


def protect_memory() -> None:
    """Hide the memory, environment and open files of this process from others of its user.

    Its /proc files then belong to root, no process of the same user can trace it, and it leaves no
    core dump (PR_SET_DUMPABLE in prctl(2)). Linux only.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            _hide_memory()


def _limits(memory: int, cpu_s: int) -> str:
    import resource

    limits = (("AS", memory), ("CPU", cpu_s), ("FSIZE", 0), ("CORE", 0))
    for kind, soft in limits:
        # The soft CPU limit sends SIGXCPU, which identifies a timeout; the hard one sends SIGKILL.
        hard = soft + 5 if kind == "CPU" else soft
        _limit(getattr(resource, f"RLIMIT_{kind}"), soft, hard)
    return "address space, CPU time, no written files"


def _limit_descriptors() -> str:
    import resource

    _limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS)
    return "none but standard input, output and error"


def _limit(kind: int, soft: int, hard: int) -> None:
    import resource

    try:
        resource.setrlimit(kind, (soft, hard))
    except ValueError as error:  # above the limit that holds already
        raise OSError(errno.EPERM, str(error)) from None


def _isolate(separated: int) -> list[Level]:
    from stream.audio.confinement import kernel, landlock, namespaces, seccomp

    privileges = _level("no new privileges", _no_new_privileges)
    entered, reason = namespaces.complete(separated)
    if not entered & namespaces.NEW_USER and not separated:
        reason = f"{reason}; {_CONTAINER}"
    # Another decoder of the same user cannot read this one's memory.
    hidden = _level("memory", _hide_memory)
    kernel.exit_on(signal.SIGXCPU)
    found = [
        Level(f"{name} namespace", True, "its own")
        if entered & flag
        else Level(f"{name} namespace", False, reason)
        for name, flag in namespaces.NAMES.items()
    ]
    return [
        privileges,
        hidden,
        *found,
        _level("capabilities", _drop_capabilities),
        _level("Landlock", landlock.restrict),
        # A Landlock ruleset is an open file, hence after it.
        _level("open files", _limit_descriptors),
        _level("seccomp", seccomp.install),
    ]


def _no_new_privileges() -> str:
    from stream.audio.confinement import kernel

    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return "no rights from set-user-id programs"


def _hide_memory() -> str:
    from stream.audio.confinement import kernel

    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return "not readable by other processes of the user"


def _drop_capabilities() -> str:
    from stream.audio.confinement import kernel

    kernel.drop_capabilities()
    return "none"


def _level(name: str, apply: Callable[[], str]) -> Level:
    try:
        return Level(name, True, apply())
    except OSError as error:
        return Level(name, False, _reason(error))


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSYS and error.strerror == os.strerror(errno.ENOSYS):
        return "the kernel does not have it"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"not permitted; {_CONTAINER}"
    if error.errno == errno.EOPNOTSUPP:
        return "turned off in the kernel; add landlock to its parameter lsm="
    return str(error.strerror)
