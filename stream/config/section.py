"""Base of the sections of the configuration, and types of keys that several of them use."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stream.tenants import TENANT

FRAME_MS = 20
"""Length of a frame of the voice detector, in milliseconds."""

Positive = Annotated[float, Field(gt=0)]

Grid = Annotated[int, Field(ge=FRAME_MS, multiple_of=FRAME_MS)]
"""Milliseconds in multiples of 20 ms, the frame of the VAD."""

KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Name of a client's key."""


def tenant_name(name: str) -> str:
    """Return the name of a tenant. Raises ValueError."""
    if re.fullmatch(TENANT, name) is None:
        raise ValueError(
            "a tenant's name has 1 to 32 lower-case letters, digits, - and _, and begins with a "
            "letter or digit"
        )
    return name


TenantName = Annotated[str, AfterValidator(tenant_name)]
"""Name of a tenant."""


class Section(BaseModel):
    """Base of the tables of the configuration; an unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
