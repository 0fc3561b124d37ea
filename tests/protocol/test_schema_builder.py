"""Builder of the schemas: types become JSON Schema with their limits and texts."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stream.fields import Limits, Stated
from stream.protocol.schemas.types import SchemaBuilder
from stream.protocol.wire import values

Size = Annotated[int, Limits(ge=1, le=9, example=3)]
"""A size."""

Pair = Annotated[tuple[Size, ...], Stated(min_length=2, max_length=2, unique=True)]

Colour = Literal["red", "blue"]
"""A colour."""

Level = Annotated[float, Limits(gt=0)] | None
"""A level, if it is known."""


class Inner(TypedDict):
    """An inner object."""

    size: Size


class Outer(Inner):
    """An outer object."""

    kind: Literal["outer"]
    own: NotRequired[Size]
    """A size with its own text."""
    pair: Pair
    colour: Colour
    maybe: Colour | None
    level: Level
    inner: Inner | None
    shown: Inner
    """An object with its own text."""
    by_name: Annotated[dict[str, Size], Stated(keys=("a", "b"))]
    by_pattern: Annotated[dict[str, Size], Stated(keys="^x")]
    word: Annotated[str, Stated(among=("yes", "no"))]
    anything: dict[str, Any]


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")

    size: Size = 2
    colour: Colour | None = None


class Message(BaseModel):
    """A message."""

    type: Literal["message"]
    part: Part = Part()
    many: Annotated[dict[Annotated[str, Limits(min_length=1)], int], Limits(max_length=5)] = {}


def built(cls: Any, *, closed: bool = True) -> dict[str, Any]:
    builder = SchemaBuilder([sys.modules[__name__]], "#/definitions/", closed=closed)
    assert builder.reference(cls) == {"$ref": f"#/definitions/{cls.__name__}"}
    return builder.schemas


def test_a_typed_dict_becomes_a_closed_object() -> None:
    schemas = built(Outer)
    size = {"type": "integer", "minimum": 1, "maximum": 9, "examples": [3]}
    assert schemas["Size"] == {**size, "description": "A size."}
    assert schemas["Inner"] == {
        "type": "object",
        "description": "An inner object.",
        "required": ["size"],
        "additionalProperties": False,
        "properties": {"size": {"$ref": "#/definitions/Size"}},
    }
    outer = schemas["Outer"]
    assert set(outer["required"]) == set(outer["properties"]) - {"own"}
    reference = {name: {"$ref": f"#/definitions/{name}"} for name in schemas}
    assert outer["properties"] == {
        "size": reference["Size"],
        "kind": {"const": "outer"},
        "own": {**size, "description": "A size with its own text."},
        "pair": {
            "type": "array",
            "items": reference["Size"],
            "minItems": 2,
            "maxItems": 2,
            "uniqueItems": True,
        },
        "colour": reference["Colour"],
        "maybe": {"oneOf": [{"type": "null"}, reference["Colour"]]},
        "level": reference["Level"],
        "inner": {"oneOf": [{"type": "null"}, reference["Inner"]]},
        "shown": {"allOf": [reference["Inner"]], "description": "An object with its own text."},
        "by_name": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"a": reference["Size"], "b": reference["Size"]},
        },
        "by_pattern": {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {"^x": reference["Size"]},
        },
        "word": {"type": "string", "enum": ["yes", "no"]},
        "anything": {"type": "object"},
    }
    assert schemas["Colour"]["enum"] == ["red", "blue"]
    assert schemas["Level"]["type"] == ["number", "null"]
    assert schemas["Level"]["exclusiveMinimum"] == 0


def test_an_open_schema_accepts_fields_of_later_versions() -> None:
    schema = {**built(Inner, closed=False)["Inner"], "definitions": built(Inner, closed=False)}
    Draft7Validator(schema).validate({"size": 3, "later": 1})
    assert not Draft7Validator(schema).is_valid({"size": 10})


def test_a_model_becomes_a_schema_with_defaults_and_without_null() -> None:
    schemas = built(Message)
    part = schemas["Part"]
    assert part["additionalProperties"] is False
    assert part["properties"]["size"] == {"allOf": [{"$ref": "#/definitions/Size"}], "default": 2}
    assert part["properties"]["colour"] == {"$ref": "#/definitions/Colour"}
    assert "additionalProperties" not in schemas["Message"], "unknown fields are ignored"
    assert schemas["Message"]["required"] == ["type"]
    assert schemas["Message"]["properties"]["many"] == {
        "type": "object",
        "propertyNames": {"type": "string", "minLength": 1},
        "additionalProperties": {"type": "integer"},
        "maxProperties": 5,
    }


def test_pydantic_checks_limits_but_not_what_is_only_stated() -> None:
    size = TypeAdapter(Size)
    assert size.validate_python(9) == 9
    for wrong in (0, 10):
        with pytest.raises(ValidationError):
            size.validate_python(wrong)
    assert TypeAdapter(Pair).validate_python([1]) == (1,)


def test_two_aliases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="another alias has this name"):
        SchemaBuilder([values, values], "#", closed=True)
