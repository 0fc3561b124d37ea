"""What to do when a connection fails: try again, when, or give up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from client.remote.errors import Broken, Unreachable

RETRY_CODES = frozenset({1001, 1006, 1011, 1012, 1013})
RETRY_STATUS = frozenset({429, 500, 502, 503, 504})
"""HTTP answers instead of the upgrade that pass by themselves."""

SETTLED_S = 5.0
"""A connection that lived this long is not part of a row of failures."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: each wait is drawn between nothing and a bound that doubles. In seconds.

    `give_up_s` is how long a server may stay away; None waits for ever.
    """

    first_s: float = 0.2
    most_s: float = 10.0
    give_up_s: float | None = 60.0
    draw: Callable[[float, float], float] = random.uniform

    def delay(self, attempt: int, retry_after_s: float = 0.0) -> float:
        """Seconds to wait before `attempt` (from 0), no sooner than the server asked for."""
        bound = min(self.most_s, self.first_s * 2.0 ** min(attempt, 32))
        return retry_after_s + self.draw(0.0, bound)


class Retries:
    """How a row of failures goes on: asks the back-off, and gives up in time."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._attempt = 0
        self._since: float | None = None

    def worked(self, lived_s: float) -> None:
        """A connection stood for `lived_s` before it broke."""
        self._since = None
        if lived_s >= SETTLED_S:
            self._attempt = 0

    def failed(self, broken: Broken, now: float) -> float:
        """Seconds to wait before the next try. Raises `Unreachable` when it has been too long."""
        self._since = now if self._since is None else self._since
        give_up = self._backoff.give_up_s
        if give_up is not None and now - self._since >= give_up:
            raise Unreachable(f"gave up after {now - self._since:.0f} s: {broken.why}")
        delay = self._backoff.delay(self._attempt, broken.retry_after_s)
        self._attempt += 1
        return delay
