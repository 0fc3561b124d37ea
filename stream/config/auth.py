"""Section `auth`: the keys of clients, their scopes, tenants and quotas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stream.config.section import KeyName, Section, TenantName, tenant_name
from stream.tenants import ANY, DEFAULT

Scope = Literal["stream", "subscribe", "files", "feedback", "metrics", "alerts", "history"]
"""Access that a key grants."""


class QuotaConfig(Section):
    """Use that one key, or all keys of one tenant, may make; by default a share (`auth.share`)."""

    sessions: Annotated[int, Field(ge=0)] | None = None
    """Streams at a time, of `limits.max_sessions`."""
    subscribers: Annotated[int, Field(ge=0)] | None = None
    """Connections on /v1/subscribe, of `limits.max_subscribers`."""
    recordings: Annotated[int, Field(ge=0)] | None = None
    """Connections on /v1/files and unfinished recordings over HTTP, of `files.max_clients`."""
    tickets: Annotated[int, Field(ge=0)] | None = None
    """Unused tickets, of 10 000."""
    bytes_per_s: Annotated[float, Field(ge=1_000)] | None = None
    """Bytes per second received; what is beyond is read later. Bursts of 4 s are allowed."""
    requests_per_s: Annotated[float, Field(gt=0)] | None = None
    """HTTP requests per second. Bursts of 4 s are allowed."""


def _watched(name: str) -> str:
    return name if name == ANY else tenant_name(name)


class KeyConfig(Section):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of the key that `emotide keys NAME` printed."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("stream", "subscribe", "files")
    tenant: TenantName = DEFAULT
    """Tenant to which the key belongs: it sends and sees the streams and recordings of no other."""
    tenants: tuple[Annotated[str, AfterValidator(_watched)], ...] = ()
    """Tenants whose live streams and history it may see besides its own; ["*"]: those of all."""
    quota: QuotaConfig = QuotaConfig()


class AuthConfig(Section):
    keys: dict[KeyName, KeyConfig] = Field(default_factory=dict)
    """Keys by name; empty: no authentication."""
    quotas: dict[TenantName, QuotaConfig] = Field(default_factory=dict)
    """Quotas by tenant, each for all keys of the tenant together."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of each limit of the server that one key, and one tenant, may use among several."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of all tenants, in alphabetical order; the default one alone without keys."""
        return tuple(sorted({key.tenant for key in self.keys.values()} or {DEFAULT}))

    @model_validator(mode="after")
    def _tenants_exist(self) -> AuthConfig:
        for name, key in self.keys.items():
            for tenant in set(key.tenants) - {ANY, *self.tenants}:
                raise ValueError(
                    f"keys.{name}.tenants: no key belongs to the tenant {tenant!r}; tenants are "
                    f"{', '.join(self.tenants)}"
                )
        for tenant in set(self.quotas) - {*self.tenants}:
            raise ValueError(
                f"quotas.{tenant}: no key belongs to this tenant; tenants are "
                f"{', '.join(self.tenants)}"
            )
        return self

    @model_validator(mode="after")
    def _metrics_are_for_all_tenants(self) -> AuthConfig:
        for name, key in self.keys.items():
            if "metrics" in key.scopes and len(self.tenants) > 1 and ANY not in key.tenants:
                raise ValueError(
                    f'keys.{name}.scopes: metrics are those of all tenants; add tenants = ["*"] '
                    "to this key, or leave the scope metrics out"
                )
        return self
