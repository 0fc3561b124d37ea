"""Types of fields with their limits, for pydantic and for the generated schemas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

ROLE = r"^[a-z][a-z0-9_]{0,31}$"


# Not compared by value, because two aliases with the same limits are two types with two names.
@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """Limits of a type that the generated schemas contain and pydantic does not check.

    `ge`, `gt` and `le` apply to numbers, the lengths to text, arrays and objects, `among` to text.
    `keys` are the only keys of an object, or the pattern of all of them. `example` is a value.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    unique: bool = False
    among: tuple[str, ...] = ()
    keys: str | tuple[str, ...] = ()
    example: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Limits(Stated):
    """Limits of a type that pydantic checks in messages, without importing pydantic."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the schema of `source` with the limits, as pydantic's `Field` would make it."""
        names = ("ge", "gt", "le", "min_length", "max_length", "pattern")
        given = {name: getattr(self, name) for name in names}
        return handler(source) | {k: v for k, v in given.items() if v is not None}


Role = Annotated[str, Limits(pattern=ROLE, example="customer")]
"""Role of a channel: customer, agent, speaker, or a name chosen by the deployer.

Not all roles are analysed (`privacy.analyse_roles`).
"""

Share = Annotated[float, Limits(ge=0, le=1)]
"""A share, 0 to 1."""

RuleName = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", example="angry_customer")]
"""Name of a rule of alerts."""

Horizon = Annotated[str, Limits(pattern=r"^(window|call|[1-9][0-9]{0,2}s)$", example="10s")]
"""Time over which a rule's value is taken."""
