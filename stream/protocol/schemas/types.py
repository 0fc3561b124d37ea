"""JSON Schemas (draft 7) of types: TypedDicts, pydantic models, aliases with limits."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from stream.fields import Stated
from stream.protocol.schemas.docs import Docs
from stream.protocol.schemas.objects import Field, accepts_more, fields_of, is_object

Schema = dict[str, Any]

SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Any: {},
}
LENGTHS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


class SchemaBuilder:
    """Collects schemas by name. A class has a name, and so has an alias with a docstring.

    `prefix` is that of references. With `closed`, an object with other fields than those of its
    type is invalid, except for messages of clients, whose unknown fields the server ignores.
    """

    def __init__(self, modules: Iterable[ModuleType], prefix: str, *, closed: bool) -> None:
        self.schemas: dict[str, Schema] = {}
        self._prefix = prefix
        self._closing: Schema = {"additionalProperties": False} if closed else {}
        self._docs: dict[str, Docs] = {}
        self._aliases: dict[Any, tuple[str, str]] = {}
        """By type: the name of an alias, and its docstring."""
        for module in modules:
            docs = self._docs[module.__name__] = Docs(module)
            for name, text in docs.aliases.items():
                value = getattr(module, name)
                if get_origin(value) is not None:
                    self._add_alias(value, name, text)

    def _add_alias(self, value: Any, name: str, text: str) -> None:
        names = {known for known, _ in self._aliases.values()}
        if value in self._aliases or name in names:
            raise ValueError(f"{name}: another alias has this name or is the same type")
        self._aliases[value] = name, text

    def reference(self, hint: Any, text: str = "") -> Schema:
        """Return the schema of a type: a reference if it has a name, else the schema itself.

        A field with a `text` of its own gets a copy of an alias, with that text.
        """
        described = {"description": text} if text else {}
        if is_object(hint):
            reference = self._named(hint.__name__, lambda: self._object(hint))
            return {"allOf": [reference], **described} if text else reference
        if hint in self._aliases and not text:
            name, text = self._aliases[hint]
            return self._named(name, lambda: {**self._inline(hint), "description": text})
        return {**self._inline(hint), **described}

    def _named(self, name: str, build: Callable[[], Schema]) -> Schema:
        if name not in self.schemas:
            self.schemas[name] = {}  # marks the name as visited, against endless recursion
            self.schemas[name] = build()
        return {"$ref": self._prefix + name}

    def _inline(self, hint: Any) -> Schema:
        origin, arguments = get_origin(hint), get_args(hint)
        if is_object(hint):
            return self._object(hint)
        if origin is Annotated:
            schema = self._inline(arguments[0])
            for stated in arguments[1:]:
                if isinstance(stated, Stated):
                    schema = self._keyed(_limited(schema, stated), stated.keys)
            return schema
        if origin is Literal:
            return _enumeration(arguments)
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin in (list, tuple, Sequence):
            return {"type": "array", "items": self.reference(arguments[0])}
        if origin in (dict, Mapping):
            names, values = map(self.reference, arguments)
            return {
                "type": "object",
                **({} if names == SCALARS[str] else {"propertyNames": names}),
                **({"additionalProperties": values} if values else {}),
            }
        return dict(SCALARS[hint])

    def _keyed(self, schema: Schema, keys: str | tuple[str, ...]) -> Schema:
        """Restrict the keys of an object to a pattern or to names."""
        if not keys:
            return schema
        rest = dict(schema)
        values = rest.pop("additionalProperties")
        if isinstance(keys, str):
            return {**rest, **self._closing, "patternProperties": {keys: values}}
        return {**rest, **self._closing, "properties": {key: dict(values) for key in keys}}

    def _union(self, members: Sequence[Any]) -> Schema:
        schemas = [self.reference(member) for member in members if member is not type(None)]
        if type(None) not in members:
            return {"oneOf": schemas}
        [schema] = schemas
        if "type" in schema and "enum" not in schema:
            return {**schema, "type": [schema["type"], "null"]}
        return {"oneOf": [{"type": "null"}, schema]}

    def _object(self, cls: Any) -> Schema:
        fields = fields_of(cls)
        required = [field.name for field in fields if field.required]
        return {
            "type": "object",
            "description": self._class_text(cls),
            **({"required": required} if required else {}),
            **({} if accepts_more(cls) else self._closing),
            "properties": {field.name: self._property(cls, field) for field in fields},
        }

    def _property(self, cls: Any, field: Field) -> Schema:
        schema = self.reference(field.type, self._field_text(cls, field.name))
        if field.default is None:
            return schema
        return {**({"allOf": [schema]} if "$ref" in schema else schema), "default": field.default}

    def _class_text(self, cls: Any) -> str:
        """Return the docstring of a class.

        A class without one is its last base with other common fields, so it has that of the base.
        """
        docs = self._docs[cls.__module__]
        return docs.of_class(cls.__name__) or self._class_text(docs.bases(cls.__name__)[-1])

    def _field_text(self, cls: Any, name: str) -> str:
        """Return the docstring of a field of a class or of its bases, "" without one."""
        docs = self._docs[cls.__module__]
        bases = [base for base in docs.bases(cls.__name__) if is_object(base)]
        known = (base for base in bases if base.__module__ in self._docs)
        inherited = (self._field_text(base, name) for base in known)
        return docs.of_field(cls.__name__, name) or next(filter(None, inherited), "")


def _enumeration(values: Sequence[Any]) -> Schema:
    return {"const": values[0]} if len(values) == 1 else {"type": "string", "enum": list(values)}


def _limited(schema: Schema, stated: Stated) -> Schema:
    shortest, longest = LENGTHS.get(schema["type"], ("", ""))
    keywords = {
        "minimum": stated.ge,
        "exclusiveMinimum": stated.gt,
        "maximum": stated.le,
        "pattern": stated.pattern,
        "enum": list(stated.among) or None,
        "uniqueItems": stated.unique or None,
        shortest: stated.min_length,
        longest: stated.max_length,
        "examples": None if stated.example is None else [stated.example],
    }
    return schema | {key: value for key, value in keywords.items() if value is not None}
