"""Delays between attempts to connect, and the limit after which a client stops trying."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from client.remote.errors import Broken, Unreachable

RETRY_CODES = frozenset({1001, 1006, 1011, 1012, 1013})
RETRY_STATUS = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses of a failed upgrade that are temporary."""

STABLE_S = 5.0
"""A connection that lasted this long, in seconds, resets the delay."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter, in seconds.

    Each delay is drawn between 0 and a bound that starts at `first_s`, doubles with every attempt,
    and is at most `most_s`. `give_up_s` limits the time without a server; None means no limit.
    """

    first_s: float = 0.2
    most_s: float = 10.0
    give_up_s: float | None = 60.0
    draw: Callable[[float, float], float] = random.uniform

    def delay(self, attempt: int, retry_after_s: float = 0.0) -> float:
        """Return the seconds to wait before `attempt` (from 0), at least `retry_after_s`."""
        bound = min(self.most_s, self.first_s * 2.0 ** min(attempt, 32))
        return retry_after_s + self.draw(0.0, bound)


class Retries:
    """Counter of consecutive failures, with the delay after each."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._attempt = 0
        self._since: float | None = None

    def succeeded(self, lived_s: float) -> None:
        """Record a connection that lasted `lived_s` seconds before it broke."""
        self._since = None
        if lived_s >= STABLE_S:
            self._attempt = 0

    def failed(self, broken: Broken, now: float) -> float:
        """Record a failure and return the seconds to wait before the next attempt.

        `now` is in seconds. Raises `Unreachable` after `give_up_s` seconds of failures.
        """
        self._since = now if self._since is None else self._since
        give_up = self._backoff.give_up_s
        if give_up is not None and now - self._since >= give_up:
            raise Unreachable(f"gave up after {now - self._since:.0f} s: {broken.why}")
        delay = self._backoff.delay(self._attempt, broken.retry_after_s)
        self._attempt += 1
        return delay
