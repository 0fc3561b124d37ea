"""Authentication: keys with scopes, and one-time tickets for browsers. Pure.

A key is shown once, when it is made (`python -m stream.server.auth NAME`); the configuration holds
only its SHA-256. Keys have 256 random bits, so a plain hash is as good as a slow one. Programs send
a key as `Authorization: Bearer KEY` (RFC 6750); a browser cannot set that header on a WebSocket,
so it exchanges the key for a ticket that is good for one connection within a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from stream.config import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)

TICKET_S = 60.0
MOST_TICKETS = 10_000
TICKET = "emotide.ticket."
"""A ticket is offered as a WebSocket subprotocol with this prefix, beside `emotide.v1`."""


class AuthenticationError(Exception):
    """Why a request may not do what it wants to, for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Key:
    """What the configuration says of one key: SHA-256 in hexadecimal, and what it opens."""

    name: str
    sha256: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Ticket:
    key: Key
    until: float


class Authenticator:
    """Decides who may do what; open to all if there are no keys. `clock` counts seconds."""

    def __init__(self, keys: Iterable[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = {key.sha256: key for key in keys}
        self._clock = clock
        self._tickets: dict[str, _Ticket] = {}

    @property
    def open(self) -> bool:
        """Whether everybody may do everything, because no keys are configured."""
        return not self._keys

    def key(self, authorization: str) -> Key | None:
        """The key that an Authorization header shows, or None."""
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(shown.strip().encode()).hexdigest()
        found = None
        # All of them, so that the time taken tells nothing.
        for known, key in self._keys.items():
            if hmac.compare_digest(known, digest):
                found = key
        return found

    def ticket(self, key: Key) -> str:
        """A new ticket for one connection with the rights of `key`."""
        now = self._clock()
        while self._tickets and (
            len(self._tickets) >= MOST_TICKETS or next(iter(self._tickets.values())).until < now
        ):
            del self._tickets[next(iter(self._tickets))]
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = _Ticket(key, now + TICKET_S)
        return ticket

    def redeem(self, offered: Sequence[str]) -> Key | None:
        """The key behind a ticket among the offered subprotocols; a ticket is used up by it."""
        for protocol in offered:
            if protocol.startswith(TICKET):
                ticket = self._tickets.pop(protocol.removeprefix(TICKET), None)
                if ticket is not None and ticket.until >= self._clock():
                    return ticket.key
        return None

    def admit(self, scope: Scope, authorization: str, offered: Sequence[str]) -> Key | None:
        """The key that opens what `scope` names; None where no keys are configured.

        `offered` are the request's subprotocols. Raises `AuthenticationError`.
        """
        if self.open:
            return None
        key = self.key(authorization) or self.redeem(offered)
        if key is None:
            raise AuthenticationError(
                "unauthorized: this server wants a key: send Authorization: Bearer KEY, or from a "
                f"browser a ticket of POST /v1/token as subprotocol {TICKET}TICKET"
            )
        if scope not in key.scopes:
            raise AuthenticationError(f'forbidden: the key "{key.name}" does not open "{scope}"')
        return key


def make_key() -> tuple[str, str]:
    """A new key and its SHA-256."""
    key = "emk_" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def main() -> None:
    """Print a new key, and what goes into the configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m stream.server.auth",
        description="Make a key. It is shown this once; the configuration gets its hash.",
    )
    parser.add_argument("name", help="whose it is, for the log")
    parser.add_argument(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=["stream", "subscribe", "files"],
        help="what it opens: stream audio in, listen, analyse recordings, read metrics "
        "(default: the first three)",
    )
    options = parser.parse_args()
    key, digest = make_key()
    scopes = ", ".join(f'"{scope}"' for scope in options.scopes)
    print(f"The key, for its holder:\n  {key}\n\nFor the server's configuration:")
    print(f'  [auth.keys.{options.name}]\n  sha256 = "{digest}"\n  scopes = [{scopes}]')


if __name__ == "__main__":
    main()
