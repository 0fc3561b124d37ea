"""Rules of alerts that one subscriber sets."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from stream.alert_rules import AlertRule
from stream.alerts.book import MAX_SUBSCRIBERS_RULES, TooManyRules
from stream.config import horizon_problem
from stream.protocol.errors import ProtocolError
from stream.services import Services
from stream.tenants import Principal


class SubscriberRules:
    """Rules of one connection, checked against its key and the server's horizons."""

    def __init__(self, services: Services, principal: Principal) -> None:
        self._config = services.config
        self._book = services.rules
        self._principal = principal
        self._owner = secrets.token_hex(8)

    def set(self, rules: Sequence[AlertRule]) -> None:
        """Replace all rules of the connection. Raises `ProtocolError`, never fatal."""
        self.check_scope()
        self._check(rules)
        try:
            self._book.replace(self._owner, rules, self._principal)
        except TooManyRules:
            raise ProtocolError(
                "quota_exceeded",
                f"rules: all subscribers together have {MAX_SUBSCRIBERS_RULES} rules at most; send "
                "fewer, or ask the operator for rules in the configuration",
                param="rules",
                fatal=False,
            ) from None

    def check_scope(self) -> None:
        """Raise `ProtocolError`, never fatal, unless the key has the scope `alerts`."""
        keys = self._config.auth.keys
        if keys and "alerts" not in keys[self._principal.key].scopes:
            raise ProtocolError(
                "forbidden",
                f'the key "{self._principal.key}" lacks the scope "alerts"; use another key, or '
                "ask the operator for rules in the configuration",
                param="type",
                fatal=False,
            )

    def _check(self, rules: Sequence[AlertRule]) -> None:
        """Raise `ProtocolError` for a rule that the server cannot apply."""
        names = [rule.name for rule in rules]
        for number, rule in enumerate(rules):
            problem = horizon_problem(rule, self._config.rolling.horizons_s)
            if problem:
                raise _invalid(f"rules.{number}.horizon", problem)
            if rule.name in names[:number]:
                raise _invalid(
                    f"rules.{number}.name",
                    f"{rule.name!r} names several rules; give each its own name",
                )

    def remove(self) -> None:
        """Remove the rules at the end of the connection; their open alerts end."""
        self._book.replace(self._owner, ())


def _invalid(field: str, problem: str) -> ProtocolError:
    return ProtocolError("invalid_message", f"{field}: {problem}", param=field, fatal=False)
