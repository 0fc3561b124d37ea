"""Quotas of keys and tenants: shares of the server's limits, stated limits, rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from stream.config import Config
from stream.protocol.errors import ProtocolError
from stream.quotas import (
    BURST_S,
    MAX_TICKETS,
    REQUESTS_PER_S,
    STREAM_BYTES_PER_S,
    Countable,
    Quotas,
    TokenBucket,
)
from stream.tenants import ANYONE, Principal

A1, A2, G = Principal("a1", "acme"), Principal("a2", "acme"), Principal("g", "globex")
MANY = 100_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def config(keys: dict[str, Any], **auth: Any) -> Config:
    tables = {name: {"sha256": "0" * 64, **table} for name, table in keys.items()}
    limits = {"max_sessions": 10, "max_subscribers": 20}
    files = {"max_clients": 5}
    return Config.model_validate(
        {"limits": limits, "files": files, "auth": {"keys": tables, **auth}}
    )


THREE = {"a1": {"tenant": "acme"}, "a2": {"tenant": "acme"}, "g": {"tenant": "globex"}}


def room(quotas: Quotas, what: Countable, principal: Principal, others: Sequence[Principal]) -> int:
    """Return how many more a principal gets, beside what `others` hold."""
    held = list(others)
    while len(held) < MANY:
        try:
            quotas.check(what, principal, held)
        except ProtocolError:
            break
        held.append(principal)
    return len(held) - len(others)


def test_without_keys_nothing_is_limited() -> None:
    quotas = Quotas(config({}))
    for what in ("sessions", "subscribers", "recordings", "tickets"):
        quotas.check(what, ANYONE, [ANYONE] * MANY)
    assert quotas.bytes_received(ANYONE, 10**12) == 0
    for _ in range(1000):
        quotas.check_request(ANYONE)


@pytest.mark.parametrize(
    ("what", "total"),
    [("sessions", 10), ("subscribers", 20), ("recordings", 5), ("tickets", MAX_TICKETS)],
)
def test_a_single_key_may_use_the_whole_limit(what: Countable, total: int) -> None:
    quotas = Quotas(config({"a1": {"tenant": "acme"}}))
    assert quotas.of_key(what, "a1") == quotas.of_tenant(what, "acme") == total
    assert quotas.bytes_received(A1, 10**12) == 0
    for _ in range(1000):
        quotas.check_request(A1)


@pytest.mark.parametrize(
    ("what", "half"), [("sessions", 5), ("subscribers", 10), ("recordings", 3)]
)
def test_one_key_of_several_gets_a_share(what: Countable, half: int) -> None:
    """One key took every stream of the server, and the next customer's call got a 503."""
    quotas = Quotas(config(THREE))
    assert room(quotas, what, A1, []) == half
    assert room(quotas, what, G, [A1] * half) == half


def test_the_keys_of_a_tenant_share_its_quota() -> None:
    quotas = Quotas(config(THREE))
    assert room(quotas, "sessions", A1, [A2] * 3) == 2
    assert room(quotas, "sessions", G, [A2] * 3) == 5


def test_only_keys_that_use_a_quota_share_it() -> None:
    """The key of a wall board must not halve the streams of the only key that sends audio."""
    keys = {"a1": {"scopes": ["stream"]}, "g": {"scopes": ["subscribe"], "tenant": "globex"}}
    quotas = Quotas(config(keys))
    assert quotas.of_key("sessions", "a1") == quotas.of_tenant("sessions", "default") == 10
    assert quotas.of_key("subscribers", "g") == 20
    assert quotas.of_key("tickets", "g") == MAX_TICKETS // 2
    assert not quotas.is_shared("sessions")
    assert quotas.is_shared("tickets")


def test_a_quota_is_shared_by_tenants_and_not_by_keys() -> None:
    assert Quotas(config(THREE)).is_shared("recordings")
    assert not Quotas(config({"a1": {"tenant": "acme"}, "a2": {"tenant": "acme"}})).is_shared(
        "recordings"
    )
    assert not Quotas(config({})).is_shared("recordings")


def test_a_stated_quota_replaces_the_share() -> None:
    keys = {**THREE, "a1": {"tenant": "acme", "quota": {"sessions": 9}}}
    quotas = Quotas(config(keys, quotas={"acme": {"sessions": 8}}, share=0.2))
    assert room(quotas, "sessions", A1, []) == 8
    assert room(quotas, "sessions", A2, []) == 2
    assert room(quotas, "sessions", G, []) == 2


def test_a_share_is_at_least_one() -> None:
    assert Quotas(config(THREE, share=0.01)).of_key("recordings", "g") == 1


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([A1] * 5, "the key 'a1' may have 5 streams at a time (auth.keys.a1.quota.sessions)"),
        ([A2] * 5, "the tenant 'acme' may have 5 streams at a time (auth.quotas.acme.sessions)"),
    ],
)
def test_a_refusal_names_the_quota_and_the_remedy(others: list[Principal], text: str) -> None:
    refusals: list[tuple[str, str]] = []
    quotas = Quotas(config(THREE), lambda tenant, quota: refusals.append((tenant, quota)))
    with pytest.raises(ProtocolError) as caught:
        quotas.check("sessions", A1, others)
    error = caught.value
    assert error.message == f"{text}; use fewer, or ask the operator for more"
    assert (error.code, error.retry_after_s, error.close_code) == ("quota_exceeded", 5.0, 4429)
    assert error.body()["retryable"]
    assert refusals == [("acme", "sessions")]


# -- rates -------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_pass_and_then_its_rate() -> None:
    bucket = TokenBucket(10, 20)
    assert bucket.take(20, 0) == 0
    assert bucket.take(5, 0) == 0.5
    assert bucket.take(0, 0.5) == 0
    assert bucket.take(10, 0.5) == 1
    assert bucket.offers(1, 1.5) is False
    assert bucket.offers(1, 1.6)
    assert bucket.take(20, 1000) == 0, "no more than a burst is saved up"
    assert bucket.take(1, 1000) == 0.1


def test_bytes_beyond_the_rate_have_to_wait_and_those_of_others_do_not() -> None:
    clock = Clock()
    quotas = Quotas(config(THREE), clock=clock)
    rate = 5 * STREAM_BYTES_PER_S
    assert quotas.bytes_received(A1, int(rate * BURST_S)) == 0
    assert quotas.bytes_received(A1, rate) == pytest.approx(1)
    assert quotas.bytes_received(A2, rate) == pytest.approx(2), "the tenant's rate"
    assert quotas.bytes_received(G, rate) == 0
    clock.now += 3
    assert quotas.bytes_received(A2, rate // 2) == 0


def test_a_key_within_its_sessions_is_never_slowed_down() -> None:
    """Each stream of the quota may be 48 kHz in two channels of 16 bit."""
    clock = Clock()
    quotas = Quotas(config(THREE), clock=clock)
    for _ in range(100):
        clock.now += 1
        for _ in range(5):
            assert quotas.bytes_received(G, 192_000) == 0


def test_requests_beyond_the_rate_are_refused() -> None:
    clock = Clock()
    reported: list[tuple[str, str]] = []
    quotas = Quotas(config(THREE), lambda tenant, what: reported.append((tenant, what)), clock)
    for _ in range(int(REQUESTS_PER_S * BURST_S)):
        quotas.check_request(A1)
    with pytest.raises(ProtocolError, match=r"100 requests per second.*a1\.quota\.requests_per_s"):
        quotas.check_request(A1)
    quotas.check_request(G)
    clock.now += 1.5 / REQUESTS_PER_S
    quotas.check_request(A1)
    with pytest.raises(ProtocolError):
        quotas.check_request(A1)
    assert reported == [("acme", "requests_per_s")] * 2


def test_a_slow_rate_still_allows_one_request() -> None:
    keys = {**THREE, "a1": {"tenant": "acme", "quota": {"requests_per_s": 0.01}}}
    Quotas(config(keys)).check_request(A1)
