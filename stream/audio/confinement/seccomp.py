"""Seccomp filter: the few system calls that decoding needs, and no others.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html, and <linux/filter.h> for the
instructions. It is a list of what is permitted, so that calls of future kernels are refused. A
refused call returns EPERM instead of ending the process: a library that asks for more, such as the
name of a thread, then goes on without it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from stream.audio.confinement.kernel import syscall

_SET_MODE_FILTER, _TSYNC = 1, 1
"""Operation of seccomp(2), and the flag that applies the filter to all threads."""

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Codes of BPF: load a word of the call's data; jump by comparison with it; return."""

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
"""Offsets in `struct seccomp_data`, in bytes; six arguments of 8 bytes, the low word first."""

_X32_BIT = 0x40000000
"""Marks calls of the x32 interface, which have their own numbers (x86-64 only)."""

CLONE_THREAD: Final = 0x00010000
_CLONE_NEW_NAMESPACE = 0x7E020000
_PROT_EXEC = 4
_PR_SET_NAME = 15


class Instruction(NamedTuple):
    """One instruction of BPF; `then` and `otherwise` are numbers of instructions to skip."""

    code: int
    then: int
    otherwise: int
    value: int


class Condition(NamedTuple):
    """Condition on the low word of an argument of a call, or on both words if `wide`."""

    argument: int
    equals: int = 0
    without: int = 0
    """Bits of which none may be set, instead of `equals`."""
    having: int = 0
    """Bit that must be set, instead of `equals`."""
    wide: bool = False


class Processor(NamedTuple):
    """The kernel's name for a processor (AUDIT_ARCH_…), and its column in `CALLS`."""

    architecture: int
    column: int


PROCESSORS: Final[Mapping[str, Processor]] = {
    "x86_64": Processor(0xC000003E, 0),
    "aarch64": Processor(0xC00000B7, 1),
}

CALLS: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # Open files: standard input, and messages on standard output.
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "close": (3, 57),
    # Memory.
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # Threads of this process, and their locks.
    "clone": (56, 220),
    "clone3": (435, 435),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "prctl": (157, 167),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    # Its own signals.
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "tgkill": (234, 131),
    "restart_syscall": (219, 128),
    # Clocks, random numbers, figures about itself and the machine.
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "prlimit64": (302, 261),
    "sysinfo": (99, 179),
}
"""Permitted calls and their numbers on x86-64 and 64-bit ARM."""

_SECCOMP: Final = (317, 277)


def conditions(process: int) -> Mapping[str, Sequence[Condition]]:
    """Return the calls that are permitted for some arguments only; `process` is the own id."""
    return {
        "mmap": [Condition(2, without=_PROT_EXEC)],
        "mprotect": [Condition(2, without=_PROT_EXEC)],
        "clone": [Condition(0, having=CLONE_THREAD), Condition(0, without=_CLONE_NEW_NAMESPACE)],
        "prctl": [Condition(0, equals=_PR_SET_NAME)],
        "tgkill": [Condition(0, equals=process)],
        # Reading the own limits: no other process, no new limit.
        "prlimit64": [Condition(0, equals=0), Condition(2, equals=0, wide=True)],
    }


def _tests(tests: Sequence[Condition]) -> list[Instruction]:
    """Return instructions that allow the call if all tests hold, and refuse it otherwise."""
    words: list[tuple[int, int, int, bool]] = []  # offset, code, value, holds if the jump is taken
    for test in tests:
        low = _ARGUMENTS_AT + 8 * test.argument
        if test.having:
            words.append((low, _ANY_BIT, test.having, True))
        elif test.without:
            words.append((low, _ANY_BIT, test.without, False))
        else:
            words.append((low, _EQUAL, test.equals & 0xFFFFFFFF, True))
            if test.wide:
                words.append((low + 4, _EQUAL, test.equals >> 32, True))
    instructions = []
    for number, (offset, code, value, holds) in enumerate(words):
        refuse = 2 * (len(words) - number - 1) + 1  # over the remaining tests and the `allow`
        instructions.append(Instruction(_LOAD, 0, 0, offset))
        then, otherwise = (0, refuse) if holds else (refuse, 0)
        instructions.append(Instruction(code, then, otherwise, value))
    allow = Instruction(_RETURN, 0, 0, _ALLOW)
    return [*instructions, allow, Instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def program(machine: str, process: int) -> list[Instruction]:
    """Return the filter for a processor (`os.uname().machine`) and the id of the process.

    Raises `OSError` for a processor whose call numbers are not in `CALLS`.
    """
    processor = PROCESSORS.get(machine)
    if processor is None:
        raise OSError(errno.ENOSYS, f"no filter for the processor {machine}")
    kill = Instruction(_RETURN, 0, 0, _KILL)
    filter_ = [
        Instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        Instruction(_EQUAL, 1, 0, processor.architecture),
        kill,
        Instruction(_LOAD, 0, 0, _NUMBER_AT),
        Instruction(_AT_LEAST, 0, 1, _X32_BIT),
        kill,
    ]
    limited = conditions(process)
    for name, numbers in CALLS.items():
        number = numbers[processor.column]
        if number is None:
            continue
        if name in limited:
            body = _tests(limited[name])
        elif name == "clone3":
            # Its flags are in memory, where a filter cannot read them. The C library then uses
            # clone.
            body = [Instruction(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
        else:
            body = [Instruction(_RETURN, 0, 0, _ALLOW)]
        filter_ += [Instruction(_EQUAL, 0, len(body), number), *body]
    return [*filter_, Instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)]


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def install() -> str:
    """Refuse all other calls from now on, in all threads; return a description.

    Needs no new privileges to be set. Raises `OSError`.
    """
    machine = os.uname().machine
    instructions = program(machine, os.getpid())
    array = (_Instruction * len(instructions))(*(_Instruction(*i) for i in instructions))
    number = _SECCOMP[PROCESSORS[machine].column]
    syscall(number, _SET_MODE_FILTER, _TSYNC, ctypes.byref(_Program(len(array), array)))
    return f"{len(CALLS) - 1} calls permitted"
