"""Count of a peer's invalid messages, forgiven over time."""

from __future__ import annotations

MAX_MISTAKES = 50
"""Mistakes after which a connection is closed, less those that were forgiven."""

FORGIVEN_PER_S = 5.0
"""Mistakes forgiven every second: more than the keys that a person presses, and far fewer than the
messages of a faulty program.
"""


class Mistakes:
    """Leaky bucket of mistakes. Times are monotonic seconds.

    A call of an hour may hold hundreds of messages that a server does not know, such as one per key
    pressed on a telephone; a faulty program sends as many within a second.
    """

    def __init__(self) -> None:
        self._count = 0.0
        self._since = 0.0

    def add(self, now: float) -> bool:
        """Count a mistake; return whether it is one too many."""
        self._count = max(0.0, self._count - (now - self._since) * FORGIVEN_PER_S) + 1
        self._since = now
        return self._count >= MAX_MISTAKES
