"""Confinement of a process that reads hostile files: what the kernel offers, level by level.

`separate`, then `confine`, are for the decoder process; they cannot be undone. Each level holds if
another is missing, and is reported with the reason if the kernel or a container refuses it. The
modules use the kernel's interface directly, so that no library has to be trusted or installed.
"""

from stream.audio.confinement.levels import Level, confine, protect_memory, separate

__all__ = ["Level", "confine", "protect_memory", "separate"]
