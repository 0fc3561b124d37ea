"""Authentication: keys with scopes, and one-time tickets for browsers. Pure.

A key is printed once, when it is created (`emotide keys NAME`); the configuration
holds only its SHA-256. Keys have 256 random bits, so a fast hash is as safe as a slow one. Programs
send a key as `Authorization: Bearer KEY` (RFC 6750). A browser cannot set that header on a
WebSocket, so it exchanges the key for a ticket, which is valid for one connection within a minute.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from stream.config import AuthConfig, Scope
from stream.protocol.errors import ProtocolError
from stream.quotas import MAX_TICKETS, Quotas
from stream.tenants import ANYONE, DEFAULT, Principal

SCOPES: tuple[Scope, ...] = get_args(Scope)

TICKET_S = 60.0
TICKET = "emotide.ticket."
"""Prefix of the WebSocket subprotocol that carries a ticket; offered beside `emotide.v1`."""


class AuthenticationError(Exception):
    """A request without a valid key, or whose key lacks the scope; the text is for the client."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: name, SHA-256 in hexadecimal, scopes, tenant, other tenants that it watches."""

    name: str
    sha256: str
    scopes: frozenset[str]
    tenant: str = DEFAULT
    watched: frozenset[str] = frozenset()

    @property
    def principal(self) -> Principal:
        """Principal of a request with this key."""
        return Principal(self.name, self.tenant, self.watched)


@dataclass(frozen=True, slots=True)
class _Ticket:
    key: Key
    expires: float


class Authenticator:
    """Checks keys and tickets; without keys it admits every request. `clock` returns seconds."""

    def __init__(
        self,
        keys: Iterable[Key],
        clock: Callable[[], float] = time.monotonic,
        quotas: Quotas | None = None,
    ) -> None:
        self._keys = {key.sha256: key for key in keys}
        self._quotas = quotas or Quotas()
        self._clock = clock
        self._tickets: dict[str, _Ticket] = {}
        """Unused tickets, in the order in which they expire."""
        self._of_key: Counter[str] = Counter()
        self._of_tenant: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """True if no keys are configured, so that every request is admitted."""
        return not self._keys

    def key(self, authorization: str) -> Key | None:
        """Return the key in an Authorization header, or None."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(secret.strip().encode()).hexdigest()
        matching = None
        # Compare with every key, so that the time taken reveals nothing.
        for known, key in self._keys.items():
            if hmac.compare_digest(known, digest):
                matching = key
        return matching

    def ticket(self, key: Key) -> str:
        """Create a ticket for one connection with the scopes and the tenant of `key`.

        Raises `ProtocolError` (quota_exceeded, overloaded) if too many are unused; nobody who has
        one loses it.
        """
        now = self._clock()
        while self._tickets and next(iter(self._tickets.values())).expires < now:
            self._take(next(iter(self._tickets)))
        of_key, of_tenant = self._of_key[key.name], self._of_tenant[key.tenant]
        self._quotas.check_counts("tickets", key.principal, of_key, of_tenant)
        if len(self._tickets) >= MAX_TICKETS:
            raise ProtocolError(
                "overloaded", f"{MAX_TICKETS} tickets are unused; try again later", retry_after_s=5
            )
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = _Ticket(key, now + TICKET_S)
        self._of_key[key.name] += 1
        self._of_tenant[key.tenant] += 1
        return ticket

    def _take(self, ticket: str) -> _Ticket | None:
        taken = self._tickets.pop(ticket, None)
        if taken is not None:
            self._of_key[taken.key.name] -= 1
            self._of_tenant[taken.key.tenant] -= 1
        return taken

    def redeem(self, offered: Sequence[str]) -> Key | None:
        """Use up a ticket among the offered subprotocols; return its key, or None."""
        for protocol in offered:
            if protocol.startswith(TICKET):
                ticket = self._take(protocol.removeprefix(TICKET))
                if ticket is not None and ticket.expires >= self._clock():
                    return ticket.key
        return None

    def admit(self, scope: Scope, authorization: str, offered: Sequence[str]) -> Principal:
        """Return who sends a request, whose key must have `scope`; `ANYONE` without keys.

        `offered` are the subprotocols of the request. Raises `AuthenticationError`.
        """
        if self.open:
            return ANYONE
        key = self.key(authorization) or self.redeem(offered)
        if key is None:
            raise AuthenticationError(
                "unauthorized: this server requires a key: send Authorization: Bearer KEY, or from "
                f"a browser a ticket from POST /v1/token as subprotocol {TICKET}TICKET"
            )
        if scope not in key.scopes:
            raise AuthenticationError(
                f'forbidden: the key "{key.name}" lacks the scope "{scope}"; use another key'
            )
        return key.principal


def keys_of(config: AuthConfig) -> list[Key]:
    """Return the keys of the configuration."""
    return [
        Key(name, key.sha256, frozenset(key.scopes), key.tenant, frozenset(key.tenants))
        for name, key in config.keys.items()
    ]


def make_key() -> tuple[str, str]:
    """Create a key; return it and its SHA-256."""
    key = "emk_" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()
