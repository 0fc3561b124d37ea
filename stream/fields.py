"""Types of fields that the configuration and the protocol share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ROLE = r"^[a-z][a-z0-9_]{0,31}$"

Role = Annotated[str, Field(pattern=ROLE)]
"""Role of a channel: customer, agent, speaker, or a name chosen by the deployer."""
