"""Section `alerts`: rules and their webhooks."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from stream.alert_rules import AlertRule, unique_names
from stream.config.section import Section, TenantName
from stream.tenants import DEFAULT
from stream.terms import MAX_RULES


class WebhookConfig(Section):
    """Receiver of the alerts of one tenant over HTTP: docs/alerts.md."""

    url: Annotated[str, Field(pattern=r"^https?://[^/@?#\s]+(/[^#\s]*)?$", max_length=2_048)]
    secret: SecretStr
    """Key of the signatures: whsec_ and 24 to 64 bytes in base64."""
    tenant: TenantName = DEFAULT
    allow_private: bool = False
    """Permit http:// and addresses that are not on the public Internet."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0

    @property
    def key(self) -> bytes:
        """Bytes of the secret. Raises ValueError."""
        prefix, _, text = self.secret.get_secret_value().partition("_")
        key = b64decode(text, validate=True) if prefix == "whsec" else b""
        if not 24 <= len(key) <= 64:
            raise ValueError("too short, too long, or without its prefix")
        return key

    @model_validator(mode="after")
    def _has_a_key(self) -> WebhookConfig:
        try:
            _ = self.key
        except ValueError:
            raise ValueError(
                "secret: must be whsec_ and 24 to 64 bytes in base64; make one with "
                'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
            ) from None
        return self

    @model_validator(mode="after")
    def _is_encrypted(self) -> WebhookConfig:
        if self.url.startswith("http://") and not self.allow_private:
            raise ValueError("url: use https://, or set allow_private = true for a private network")
        return self


class AlertsConfig(Section):
    rules: Annotated[tuple[AlertRule, ...], Field(max_length=MAX_RULES)] = ()
    """Rules for all streams that they apply to: docs/alerts.md."""
    webhooks: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")], WebhookConfig],
        Field(max_length=8),
    ] = Field(default_factory=dict)
    """Receivers by name."""
    outbox: Path = Path("alerts")
    """Folder of the alerts that wait for their webhooks."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> AlertsConfig:
        unique_names(self.rules)
        return self


def horizon_problem(rule: AlertRule, horizons_s: tuple[int, ...]) -> str:
    """Return the reason that a server has no scores over a rule's horizon; "" if it has."""
    known = ("window", *(f"{seconds}s" for seconds in horizons_s), "call")
    if rule.horizon in known or rule.conversation is not None or rule.trend:
        return ""
    return f"{rule.horizon!r} is not one of {', '.join(known)} (rolling.horizons_s)"
