"""Fields of TypedDicts and pydantic models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object. A `default` of None means that the schema names none."""

    name: str
    type: Any
    required: bool
    default: Any = None


def is_object(hint: Any) -> bool:
    """Return whether a type is a TypedDict or a pydantic model."""
    return is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel))


def accepts_more(cls: Any) -> bool:
    """Return whether an object may have fields that the type does not list."""
    return not is_typeddict(cls) and cls.model_config.get("extra") != "forbid"


def fields_of(cls: Any) -> list[Field]:
    """Return the fields of a TypedDict or a pydantic model; `type` is the first."""
    found = _of_dict(cls) if is_typeddict(cls) else _of_model(cls)
    return sorted(found, key=lambda field: field.name != "type")


def _of_dict(cls: Any) -> Iterator[Field]:
    for name, hint in get_type_hints(cls, include_extras=True).items():
        # `__required_keys__` does not know `NotRequired` in annotations that are text.
        if get_origin(hint) is NotRequired:
            yield Field(name, get_args(hint)[0], required=False)
        else:
            yield Field(name, hint, name in cls.__required_keys__)


def _of_model(cls: type[BaseModel]) -> Iterator[Field]:
    for name, info in cls.model_fields.items():
        hint = info.rebuild_annotation()
        if info.default is None:
            # The parser takes null for an absent field; the contract has absent fields only.
            [hint] = [member for member in get_args(hint) if member is not type(None)]
        yield Field(name, hint, info.is_required(), _shown_default(info))


def _shown_default(info: FieldInfo) -> Any:
    """Return the default of a field as JSON, or None if it is an object or an empty array."""
    if isinstance(info.default, tuple):
        return list(info.default) or None
    return info.default if isinstance(info.default, str | int | float) else None
