"""Quotas: what one key, and all keys of one tenant, may use of a server. No I/O.

A quota is what the configuration states for the key or the tenant, or else a share of the server's
own limit (`auth.share`), so that nobody takes all of it. A key or tenant that is the only one with
a scope may use the whole limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from stream.config import Config, QuotaConfig, Scope
from stream.protocol.errors import ProtocolError
from stream.tenants import Principal

Countable = Literal["sessions", "subscribers", "recordings", "tickets"]
"""A quota on things that are held for a while, and so are counted."""

Rate = Literal["bytes_per_s", "requests_per_s"]

MAX_TICKETS = 10_000
"""Unused tickets of all keys."""

STREAM_BYTES_PER_S = 192_000
"""48 kHz in two channels of 16 bit: bytes per second that each session of a quota allows for."""

REQUESTS_PER_S = 100.0
"""HTTP requests with a key, among several keys."""

BURST_S = 4.0
"""Seconds of a rate that may be used at once, after a time without use."""

RETRY_S = 5.0
"""Seconds after which a refused client may try again."""

NEEDS: dict[Countable, Scope | None] = {
    "sessions": "stream",
    "subscribers": "subscribe",
    "recordings": "files",
    "tickets": None,
}
"""The scope of keys that use a quota; None: all keys do."""

NOUNS: dict[Countable | Rate, str] = {
    "sessions": "streams at a time",
    "subscribers": "connections on /v1/subscribe at a time",
    "recordings": "connections and recordings on /v1/files at a time",
    "tickets": "unused tickets at a time",
    "bytes_per_s": "bytes per second",
    "requests_per_s": "requests per second",
}


class TokenBucket:
    """Rate limit with a burst; what is taken beyond it has to be waited for. Times in seconds."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = burst
        self._level = burst
        self._at = -math.inf

    def take(self, amount: float, now: float) -> float:
        """Take an amount; return the seconds after which that is within the rate, or 0."""
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self.rate)

    def offers(self, amount: float, now: float) -> bool:
        """Return whether an amount can be taken now; takes nothing."""
        self._fill(now)
        return self._level >= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self._at) * self.rate)
        self._at = now


class Quotas:
    """The quotas of all keys and tenants. Without keys there are none.

    `refused` gets the tenant and the quota of every refusal; `clock` returns seconds.
    """

    def __init__(
        self,
        config: Config | None = None,
        refused: Callable[[str, str], None] = lambda tenant, quota: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = config or Config()
        self._auth = config.auth
        self._totals: dict[Countable, int] = {
            "sessions": config.limits.max_sessions,
            "subscribers": config.limits.max_subscribers,
            "recordings": config.files.max_clients,
            "tickets": MAX_TICKETS,
        }
        self._refused = refused
        self._clock = clock
        self._buckets: dict[tuple[Rate, str], TokenBucket | None] = {}
        """By rate and the name of the table that states it; None: without limit."""

    def check(self, what: Countable, principal: Principal, holders: Iterable[Principal]) -> None:
        """Raise `ProtocolError` (quota_exceeded) if one more exceeds the key's or tenant's quota.

        `holders` are those who hold one of these now, of all keys.
        """
        if self._auth.keys:
            self.check_counts(what, principal, *_counts(principal, holders))

    def check_counts(
        self, what: Countable, principal: Principal, of_key: int, of_tenant: int
    ) -> None:
        """Raise `ProtocolError` (quota_exceeded) if a key or tenant that holds so many is full."""
        for table, limit in self._reached(what, principal, of_key, of_tenant):
            self._refused(principal.tenant, what)
            raise _exceeded(what, principal, table, limit)

    def is_full(self, what: Countable, principal: Principal, holders: Iterable[Principal]) -> bool:
        """Return whether `check` would raise; reports no refusal."""
        return any(self._reached(what, principal, *_counts(principal, holders)))

    def _reached(
        self, what: Countable, principal: Principal, of_key: int, of_tenant: int
    ) -> Iterator[tuple[str, int]]:
        """Yield the table and the limit of each quota that is used up."""
        if not self._auth.keys:
            return
        if of_key >= (limit := self.of_key(what, principal.key)):
            yield _key_table(principal), limit
        if of_tenant >= (limit := self.of_tenant(what, principal.tenant)):
            yield _tenant_table(principal), limit

    def of_key(self, what: Countable, key: str) -> int:
        """Return how many a key may hold at a time."""
        stated = getattr(self._auth.keys[key].quota, what)
        sharers = [name for name, other in self._auth.keys.items() if _uses(what, other.scopes)]
        return self._limit(what, stated, len(sharers))

    def of_tenant(self, what: Countable, tenant: str) -> int:
        """Return how many all keys of a tenant together may hold at a time."""
        stated = getattr(self._auth.quotas.get(tenant, QuotaConfig()), what)
        return self._limit(what, stated, len(self._tenants(what)))

    def is_shared(self, what: Countable) -> bool:
        """Return whether keys of several tenants have the scope that a quota is for."""
        return len(self._tenants(what)) > 1

    def _tenants(self, what: Countable) -> set[str]:
        return {key.tenant for key in self._auth.keys.values() if _uses(what, key.scopes)}

    def _limit(self, what: Countable, stated: int | None, sharers: int) -> int:
        if stated is not None:
            return stated
        total = self._totals[what]
        return total if sharers <= 1 else math.ceil(total * self._auth.share)

    def bytes_received(self, principal: Principal, size: int) -> float:
        """Count bytes of a client; return the seconds for which it must not be read."""
        if not self._auth.keys:
            return 0.0
        now = self._clock()
        buckets = self._of("bytes_per_s", principal)
        return max((bucket.take(size, now) for bucket in buckets), default=0.0)

    def check_request(self, principal: Principal) -> None:
        """Count an HTTP request. Raises `ProtocolError` (quota_exceeded) if it is one too many."""
        now = self._clock()
        buckets = self._of("requests_per_s", principal)
        for bucket in buckets:
            if not bucket.offers(1.0, now):
                self._refused(principal.tenant, "requests_per_s")
                table = _key_table(principal)
                raise _exceeded("requests_per_s", principal, table, bucket.rate, 1.0)
        for bucket in buckets:
            bucket.take(1.0, now)

    def _of(self, rate: Rate, principal: Principal) -> list[TokenBucket]:
        if not self._auth.keys:
            return []
        found = []
        for table, stated, sharers in (
            (_key_table(principal), self._auth.keys[principal.key].quota, self._auth.keys),
            (
                _tenant_table(principal),
                self._auth.quotas.get(principal.tenant, QuotaConfig()),
                self._auth.tenants,
            ),
        ):
            if (rate, table) not in self._buckets:
                limit = self._rate(rate, getattr(stated, rate), len(sharers))
                bucket = None if limit is None else TokenBucket(limit, max(1.0, limit * BURST_S))
                self._buckets[rate, table] = bucket
            bucket = self._buckets[rate, table]
            if bucket is not None:
                found.append(bucket)
        return found

    def _rate(self, rate: Rate, stated: float | None, sharers: int) -> float | None:
        if stated is not None or sharers <= 1:
            return stated
        if rate == "requests_per_s":
            return REQUESTS_PER_S
        return math.ceil(self._totals["sessions"] * self._auth.share) * STREAM_BYTES_PER_S


def _counts(principal: Principal, holders: Iterable[Principal]) -> tuple[int, int]:
    """Return how many of the holders are of the principal's key, and of its tenant."""
    of_key = of_tenant = 0
    for holder in holders:
        if holder.tenant == principal.tenant:
            of_tenant += 1
            of_key += holder.key == principal.key
    return of_key, of_tenant


def _uses(what: Countable, scopes: Iterable[Scope]) -> bool:
    needed = NEEDS[what]
    return needed is None or needed in scopes


def _key_table(principal: Principal) -> str:
    return f"auth.keys.{principal.key}.quota"


def _tenant_table(principal: Principal) -> str:
    return f"auth.quotas.{principal.tenant}"


def _exceeded(
    what: Countable | Rate,
    principal: Principal,
    table: str,
    limit: float,
    retry_after_s: float = RETRY_S,
) -> ProtocolError:
    is_of_key = table == _key_table(principal)
    who = f"the key {principal.key!r}" if is_of_key else f"the tenant {principal.tenant!r}"
    return ProtocolError(
        "quota_exceeded",
        f"{who} may have {limit:g} {NOUNS[what]} ({table}.{what}); use fewer, or ask the "
        "operator for more",
        retry_after_s=retry_after_s,
    )
