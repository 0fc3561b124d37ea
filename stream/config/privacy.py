"""Section `privacy`: roles that are analysed, identities that are shown, the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, SecretStr, model_validator

from stream.config.section import Section
from stream.fields import Role
from stream.terms import EmployeeBasis


class PrivacyConfig(Section):
    analyse_roles: tuple[Role, ...] = ("customer", "speaker")
    """Roles to analyse; channels with other roles are dropped before the analysis."""
    activity_roles: tuple[Role, ...] = ("customer", "agent")
    """Roles whose voice activity (when they talk, nothing else) the conversation is measured from;
    []: none is measured."""
    employee_roles: tuple[Role, ...] = ("agent", "employee")
    """Roles of people at work; the EU AI Act, Art. 5(1)(f), forbids inferring their emotions."""
    employee_basis: EmployeeBasis = ""
    """Legal basis for analysing employees; shown in /v1/info and the audit log."""
    hash_ids: bool = True
    """Replace stream ids in MQTT topics by a keyed hash."""
    min_group: Annotated[int, Field(ge=1)] = 3
    """Streams that a group needs, or its numbers are withheld, so that nobody is singled out."""
    hash_key: SecretStr = SecretStr("")
    """Key of that hash; empty: a new key at every start, so that topics change."""
    require_disclosure: bool = False
    """Refuse sessions without `consent.disclosed = true`."""
    disclosure: str = "This call is analysed automatically for signs of emotion."
    """Text that /v1/info offers to clients that must inform the speaker (AI Act, Art. 50(3))."""
    audit_log: Path | None = None
    """File for JSON lines of who analysed and who subscribed; no audio, no scores."""

    @model_validator(mode="after")
    def _employees_need_a_basis(self) -> PrivacyConfig:
        employees = [role for role in self.analyse_roles if role in self.employee_roles]
        if employees and not self.employee_basis:
            known = " or ".join(repr(basis) for basis in get_args(EmployeeBasis) if basis)
            raise ValueError(
                f"analyse_roles names {', '.join(employees)}: set privacy.employee_basis to "
                f"{known}, or leave the role out"
            )
        return self
