"""Tenants: who sends a request, and whose streams and recordings are theirs to see. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT: Final = "default"
"""The tenant of keys that name none, and of every request to a server without keys."""

ANY: Final = "*"
"""All tenants, in the list of those that a key may watch."""

TENANT = r"^[a-z0-9][a-z0-9_-]{0,31}$"
"""Pattern of a tenant's name: one level of a topic, and one spelling per tenant."""

StreamKey = tuple[str, str]
"""Tenant and id of a stream; an id alone is unique within its tenant only."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Sender of a request: the name of the key ("" without keys) and its tenant.

    `watched` are the other tenants whose live streams the key may see; `ANY` stands for all.
    """

    key: str = ""
    tenant: str = DEFAULT
    watched: frozenset[str] = frozenset()

    @property
    def watches_others(self) -> bool:
        """True if it sees streams of several tenants, so that an id may name several streams."""
        return bool(self.watched - {self.tenant})

    def sees(self, tenant: str) -> bool:
        """Return whether it may see the live streams of a tenant."""
        return tenant == self.tenant or tenant in self.watched or ANY in self.watched

    @property
    def owner(self) -> str:
        """The owner of what it sends: its key, with the tenant unless that is the default one."""
        return self.key if self.tenant == DEFAULT else f"{self.tenant}/{self.key}"

    def owns(self, owner: str) -> bool:
        """Return whether a recording of `owner` is its own.

        A recording from a time without keys ("") belongs to every key of the default tenant.
        """
        return owner == self.owner or (owner == "" and self.tenant == DEFAULT)


ANYONE: Final = Principal()
"""Every request to a server without keys."""
