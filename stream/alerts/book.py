"""All rules of a process: those of the configuration, and those of connected subscribers."""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert_rules import AlertRule
from stream.alerts.monitor import OwnedRule
from stream.tenants import ANYONE, Principal

MAX_SUBSCRIBERS_RULES = 512
"""Rules of all subscribers together."""


class TooManyRules(Exception):
    """More rules of subscribers than `MAX_SUBSCRIBERS_RULES`."""


class RuleBook:
    """Rules with their owners; `version` grows with every change.

    A subscriber's rules apply to streams of its own tenant. They apply to those of other tenants
    that it may watch if they name them.
    """

    def __init__(self, rules: Sequence[AlertRule] = ()) -> None:
        self.version = 0
        self._own = tuple(OwnedRule(rule) for rule in rules)
        self._of_owner: dict[str, tuple[Principal, tuple[OwnedRule, ...]]] = {}

    def replace(
        self, owner: str, rules: Sequence[AlertRule], principal: Principal = ANYONE
    ) -> None:
        """Set all rules of an owner; none removes it. Raises `TooManyRules`."""
        others = sum(len(of) for name, (_, of) in self._of_owner.items() if name != owner)
        if others + len(rules) > MAX_SUBSCRIBERS_RULES:
            raise TooManyRules
        if not rules and owner not in self._of_owner:
            return
        self.version += 1
        if rules:
            owned = tuple(OwnedRule(rule, owner) for rule in rules)
            self._of_owner[owner] = principal, owned
        else:
            del self._of_owner[owner]

    def rules(self, tenant: str, tags: Sequence[str]) -> tuple[OwnedRule, ...]:
        """Return the rules that apply to a stream."""
        found = [owned for owned in self._own if _applies(owned.rule, tenant, tags)]
        for principal, owned_rules in self._of_owner.values():
            if principal.sees(tenant):
                found += [
                    owned
                    for owned in owned_rules
                    if (tenant == principal.tenant or owned.rule.tenants)
                    and _applies(owned.rule, tenant, tags)
                ]
        return tuple(found)


def _applies(rule: AlertRule, tenant: str, tags: Sequence[str]) -> bool:
    if rule.tenants and tenant not in rule.tenants:
        return False
    return not rule.tags or not set(rule.tags).isdisjoint(tags)
