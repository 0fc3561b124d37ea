"""Delays between attempts to connect, and conclusions from how connections end. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RETRY_S, RETRY_MAX_S = 0.2, 30.0
"""First and longest delay between two attempts to connect, in seconds."""
STABLE_S = 10.0
"""After a connection that lasted this many seconds the delay starts again at `RETRY_S`."""

CAREFUL_AFTER: Final = 2
"""Closed connections in a row after which messages are sent one at a time, to find the culprit."""
CONTESTED_AFTER: Final = 4
"""Closed connections in a row after which another client is assumed to use the identifier."""
STRIKES: Final = 2
"""Connections that a message has to break before it is dropped."""
PROMPT_S: Final = 0.75
"""A broker that does not permit a message closes the connection at once. A message that has waited
longer than this for its answer was in flight when a network failed."""
BLAMED_S, BLAMED_MAX_S = 300.0, 86_400.0
"""Seconds for which a message is dropped, at first and at most, before it is tried again: networks
that fail again and again look the same, and brokers are given other limits."""

CLASS_BYTES: Final = 1024
"""A message of at most this size was not refused for its size: its whole class is dropped."""


@dataclass(frozen=True, slots=True)
class _Blamed:
    """Messages that are dropped: their least size in bytes, until when, and for how long."""

    size: int
    until: float
    for_s: float


class Outages:
    """Ends of connections in a row: the next delay, and what to do differently.

    `clock` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.delay_s = RETRY_S
        """Delay before the next attempt, without jitter."""
        self._closed = 0
        self._unexplained = 0
        # Number of connections that messages of a class broke, and the size of the smallest.
        self._strikes: dict[str, tuple[int, int]] = {}
        self._dropped: dict[str, _Blamed] = {}
        self._clock = clock

    @property
    def careful(self) -> bool:
        """True if messages are to be sent one at a time, each with an answer."""
        return self._closed >= CAREFUL_AFTER

    @property
    def contested(self) -> bool:
        """True if connections keep ending without a reason and without a message to blame."""
        return self._unexplained >= CONTESTED_AFTER

    def ended(self, up_s: float | None, closed: bool, explained: bool, answered: bool) -> None:
        """Take note of a connection's end, or of a failed attempt (`up_s` None).

        `closed`: the broker closed it, `explained`: with a reason; `answered`: it took at least one
        message.
        """
        if up_s is None:
            return
        if up_s > STABLE_S and answered:
            self.delay_s = RETRY_S
            self.settled()
        elif closed:
            self._closed += 1
            self._unexplained = 0 if explained else self._unexplained + 1

    def refused(self) -> None:
        """Take note of a refused connection: only an operator can change that."""
        self.delay_s = RETRY_MAX_S

    def waited(self) -> None:
        """Double the delay, up to `RETRY_MAX_S`."""
        self.delay_s = min(self.delay_s * 2, RETRY_MAX_S)

    def settled(self) -> None:
        """Start anew, after the cause of the outages was removed."""
        self._closed = self._unexplained = 0
        self._strikes.clear()

    def blame(self, kind: str, size: int, refused: bool = False, waited_s: float = 0.0) -> bool:
        """Blame a message for the end of the connection; return whether to drop it from now on.

        It was the only one in flight, for `waited_s`, or, if `refused`, the broker refused it just
        before. `kind` is the class of its topic, `size` in bytes. Of its class, messages of at
        least this size are dropped, or all if it was small or the class was to blame before; for
        twice as long each time.
        """
        if not refused:
            if not self.careful or waited_s > PROMPT_S:
                return False
            strikes, least = self._strikes.get(kind, (0, size))
            self._strikes[kind] = strikes + 1, min(least, size)
            if strikes + 1 < STRIKES:
                return False
        before = self._dropped.get(kind)
        least = size if size > CLASS_BYTES and before is None else 0
        for_s = BLAMED_S if before is None else min(2 * before.for_s, BLAMED_MAX_S)
        self._dropped[kind] = _Blamed(least, self._clock() + for_s, for_s)
        # There may be others: stay careful until a connection lasts.
        self._closed, self._unexplained = CAREFUL_AFTER, 0
        self._strikes.clear()
        return True

    def took(self, kind: str, size: int) -> None:
        """Clear the strikes of messages of this class and size: the broker took one."""
        if kind in self._strikes and size >= self._strikes[kind][1]:
            del self._strikes[kind]

    def drops(self, kind: str, size: int) -> bool:
        """Return whether a message of this class and size is not to be sent now."""
        found = self._dropped.get(kind)
        return found is not None and size >= found.size and self._clock() < found.until
