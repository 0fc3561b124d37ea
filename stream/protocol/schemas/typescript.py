"""TypeScript declarations of the messages, for the users of emotide.js."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

HEAD = "// Messages of the protocol, generated from the types of the server: `make schemas`.\n"
SCALARS = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
WIDTH = 100


def declarations(schemas: Mapping[str, Schema], unions: Mapping[str, tuple[str, ...]]) -> str:
    """Return a module that exports every schema as a type, and `unions` of them by name."""
    parts = [HEAD]
    for name, schema in schemas.items():
        parts.append(_text(schema) + _declaration(name, schema))
    for name, members in unions.items():
        lines = "".join(f"\n  | {member}" for member in members)
        parts.append(f"export type {name} ={lines};\n")
    return "\n".join(parts)


def _declaration(name: str, schema: Schema) -> str:
    if "properties" in schema:
        return f"export interface {name} {_object(schema)}\n"
    return f"export type {name} = {_type(schema)};\n"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    if "allOf" in schema:
        return " & ".join(map(_type, schema["allOf"]))
    if "oneOf" in schema:
        return " | ".join(map(_type, schema["oneOf"]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        items = _type(schema["items"])
        return f"({items})[]" if "|" in items or "&" in items else f"{items}[]"
    if kind == "object":
        return _object(schema) if "properties" in schema else _record(schema)
    return SCALARS[kind] if kind else "unknown"


def _record(schema: Schema) -> str:
    """Return the type of an object whose keys are values of a type, or match a pattern."""
    names = _type(schema["propertyNames"]) if "propertyNames" in schema else "string"
    patterns = schema.get("patternProperties", {})
    values: Schema = schema.get("additionalProperties") or next(iter(patterns.values()), {})
    return f"{{ [name in {names}]?: {_type(values)} }}"


def _object(schema: Schema) -> str:
    required = schema.get("required", ())
    lines = []
    for name, value in schema["properties"].items():
        mark = "" if name in required else "?"
        field = f"{_text(value)}{name}{mark}: {_type(value)};"
        lines.append(textwrap.indent(field, "  "))
    return "{\n" + "\n".join(lines) + "\n}"


def _text(schema: Schema) -> str:
    """Return the description as a comment, or nothing if there is none."""
    text = schema.get("description", "")
    if not text:
        return ""
    if len(text) + len("/**  */") <= WIDTH:
        return f"/** {text} */\n"
    lines = textwrap.wrap(text, WIDTH, initial_indent=" * ", subsequent_indent=" * ")
    return "\n".join(["/**", *lines, " */"]) + "\n"
