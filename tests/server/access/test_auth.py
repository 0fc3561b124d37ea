"""Authentication by keys with scopes and by one-time tickets."""

from __future__ import annotations

import hashlib

import pytest

from stream.config import Config
from stream.protocol.errors import ProtocolError
from stream.quotas import MAX_TICKETS, Quotas
from stream.server.access.auth import (
    TICKET,
    TICKET_S,
    AuthenticationError,
    Authenticator,
    Key,
    make_key,
)
from stream.tenants import ANYONE


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# Fixed, because test names hold it and must be the same in every worker.
SECRET = "emk_" + "k" * 43
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
KEY = Key("desk", DIGEST, frozenset({"subscribe"}))
BEARER = f"Bearer {SECRET}"


def test_without_keys_every_request_is_admitted() -> None:
    authenticator = Authenticator([])
    assert authenticator.open
    assert authenticator.admit("metrics", "", []) is ANYONE
    assert authenticator.admit("stream", "Bearer whatever", ["emotide.v1"]) is ANYONE


def test_a_key_admits_only_its_scopes() -> None:
    authenticator = Authenticator([Key("other", "0" * 64, frozenset({"stream"})), KEY])
    assert authenticator.admit("subscribe", BEARER, []) == KEY.principal
    assert authenticator.admit("subscribe", BEARER.replace("Bearer", "bearer"), []) == KEY.principal
    with pytest.raises(
        AuthenticationError, match='forbidden: the key "desk" lacks the scope "stream"'
    ):
        authenticator.admit("stream", BEARER, [])


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {SECRET}x", f"Basic {SECRET}", SECRET, f"Bearer {DIGEST}"],
)
def test_an_invalid_authorization_header_is_refused(header: str) -> None:
    with pytest.raises(
        AuthenticationError, match="unauthorized: this server requires a key"
    ) as refusal:
        Authenticator([KEY]).admit("subscribe", header, [])
    assert "POST /v1/token" in str(refusal.value), "the remedy for browsers"


def test_a_ticket_is_valid_once() -> None:
    authenticator = Authenticator([KEY])
    offered = ["emotide.v1", TICKET + authenticator.ticket(KEY)]
    assert authenticator.admit("subscribe", "", offered) == KEY.principal
    with pytest.raises(AuthenticationError):
        authenticator.admit("subscribe", "", offered)


def test_a_ticket_has_the_scopes_of_its_key_and_expires_after_a_minute() -> None:
    clock = Clock()
    authenticator = Authenticator([KEY], clock)
    with pytest.raises(AuthenticationError, match="forbidden"):
        authenticator.admit("stream", "", [TICKET + authenticator.ticket(KEY)])
    late, early = authenticator.ticket(KEY), authenticator.ticket(KEY)
    clock.now += TICKET_S
    assert authenticator.redeem([TICKET + early]) is KEY
    clock.now += 0.1
    assert authenticator.redeem([TICKET + late]) is None


def test_the_number_of_unused_tickets_is_bounded() -> None:
    clock = Clock()
    authenticator = Authenticator([KEY], clock)
    first, *_ = [authenticator.ticket(KEY) for _ in range(MAX_TICKETS)]
    with pytest.raises(ProtocolError, match="10000 tickets are unused"):
        authenticator.ticket(KEY)
    assert authenticator.redeem([TICKET + first]) is KEY, "nobody loses a ticket"
    authenticator.ticket(KEY)
    clock.now += TICKET_S + 1
    authenticator.ticket(KEY)
    assert len(authenticator._tickets) == 1


def test_one_key_cannot_take_the_tickets_of_the_others() -> None:
    """10 040 tickets of one key, taken in seven seconds, evicted those of everybody else."""
    tables = {
        "desk": {"sha256": DIGEST, "tenant": "acme"},
        "other": {"sha256": "0" * 64},
    }
    config = Config.model_validate({"auth": {"keys": tables}})
    desk = Key("desk", DIGEST, frozenset({"subscribe"}), "acme")
    other = Key("other", "0" * 64, frozenset({"subscribe"}))
    clock = Clock()
    authenticator = Authenticator([desk, other], clock, Quotas(config))
    theirs = authenticator.ticket(other)
    taken = [authenticator.ticket(desk) for _ in range(MAX_TICKETS // 2)]
    with pytest.raises(ProtocolError, match=r"'desk' may have 5000 unused tickets.*desk.quota"):
        authenticator.ticket(desk)
    assert authenticator.redeem([TICKET + taken[0]]) is desk
    authenticator.ticket(desk)
    assert authenticator.redeem([TICKET + theirs]) is other
    clock.now += TICKET_S + 1
    authenticator.ticket(desk)
    assert authenticator._of_key == {"desk": 1, "other": 0}


def test_two_keys_of_a_tenant_share_its_tickets() -> None:
    tables = {
        "one": {"sha256": "1" * 64, "tenant": "acme"},
        "two": {"sha256": "2" * 64, "tenant": "acme"},
        "other": {"sha256": "3" * 64},
    }
    config = Config.model_validate({"auth": {"keys": tables}})
    one, two = (
        Key(n, d * 64, frozenset({"stream"}), "acme") for n, d in (("one", "1"), ("two", "2"))
    )
    authenticator = Authenticator([one, two], Clock(), Quotas(config))

    def take_all(key: Key) -> list[str]:
        taken = []
        for _ in range(MAX_TICKETS + 1):
            try:
                taken.append(authenticator.ticket(key))
            except ProtocolError:
                return taken
        raise AssertionError("no quota")

    taken, rest = take_all(one), len(take_all(two))
    assert authenticator._of_tenant["acme"] == len(taken) + rest
    assert authenticator.redeem([TICKET + taken[0]]) is one
    assert authenticator._of_tenant["acme"] == len(taken) + rest - 1
    authenticator.ticket(two)
    with pytest.raises(ProtocolError):
        authenticator.ticket(two)


def test_a_ticket_that_expires_now_is_still_valid() -> None:
    clock = Clock()
    authenticator = Authenticator([KEY], clock)
    ticket = authenticator.ticket(KEY)
    clock.now += TICKET_S
    authenticator.ticket(KEY)
    assert authenticator.redeem([TICKET + ticket]) is KEY


def test_a_new_key_has_256_random_bits_and_its_hash() -> None:
    key, digest = make_key()
    assert key.startswith("emk_")
    assert len(key) == len("emk_") + 43  # 32 bytes in base64
    assert hashlib.sha256(key.encode()).hexdigest() == digest
    assert make_key()[0] != key
