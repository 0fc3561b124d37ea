"""docs/asyncapi.yaml as something to hold messages against."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT7

PATH = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.yaml"
URI = "urn:emotide:asyncapi"

Direction = Literal[
    "to_producer",
    "to_subscriber",
    "to_uploader",
    "from_producer",
    "from_subscriber",
    "from_uploader",
]
"""The operations of the document that a WebSocket carries."""

SECRETS = ("resume_token",)
"""Fields of a producer's events that nobody else may see."""


@functools.cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return loaded


def resolve(node: Any) -> Any:
    """What a `$ref` within the document points to; anything else as it is."""
    while isinstance(node, dict) and "$ref" in node:
        reference = node["$ref"]
        assert reference.startswith("#/"), f"{reference} leaves the document"
        node = document()
        for step in reference[2:].split("/"):
            assert step in node, f"{reference} points nowhere"
            node = node[step]
    return node


def messages(operation: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The messages of an operation, by the word that stands in their `type`."""
    for reference in document()["operations"][operation]["messages"]:
        message = resolve(reference)
        yield message.get("name", reference["$ref"].rpartition("/")[2]), message


@functools.cache
def _registry() -> Registry[Any]:
    empty: Registry[Any] = Registry()
    full: Registry[Any] = empty.with_resource(URI, DRAFT7.create_resource(document()))
    return full


def validator(schema: Mapping[str, Any]) -> Draft7Validator:
    """A validator of one of the document's schemas, which may be a reference into it."""
    return Draft7Validator(_absolute(schema), registry=_registry())


def check_result(result: Mapping[str, Any]) -> None:
    """Raise `ValidationError` unless this is an `emotide.result.v1` and nothing but that."""
    validator(document()["components"]["schemas"]["Result"]).validate(result)


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: URI + value if key == "$ref" else _absolute(value) for key, value in schema.items()
        }
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema


@functools.cache
def _validators(direction: Direction) -> Mapping[str, tuple[Draft7Validator, ...]]:
    """By type; `error` towards a subscriber is of two kinds."""
    found: dict[str, tuple[Draft7Validator, ...]] = {}
    for name, message in messages(direction):
        if message.get("contentType", "application/json") == "application/json":
            found[name] = (*found.get(name, ()), validator(message["payload"]))
    return found


def validate(event: Mapping[str, Any], direction: Direction | None = None) -> None:
    """Raise AssertionError, naming type and path, unless the contract knows this message.

    Without a `direction` it is an event from the server, to a subscriber if it looks like it.
    """
    kind = event.get("type")
    where = direction or _towards(event)
    known = _validators(where)
    assert kind in known, f"{where}: {kind!r} is not in the contract: {dict(event)}"
    candidates = known[str(kind)]
    if len(candidates) > 1:
        candidates = candidates[:1] if "seq" not in event else candidates[1:]
    error = best_match(candidates[0].iter_errors(event))
    if error is not None:
        raise AssertionError(f"{where}: {kind} {error.json_path}: {error.message} in {dict(event)}")
    if where == "to_producer":
        assert "sub" not in event, f"{where}: {kind} $.sub is a subscriber's: {dict(event)}"
    elif where == "to_subscriber" and "seq" in event:
        assert "sub" in event, f"{where}: {kind} $.sub is missing: {dict(event)}"
        leaked = [name for name in SECRETS if name in event]
        assert not leaked, f"{where}: {kind} $.{leaked} is the producer's alone"


def _towards(event: Mapping[str, Any]) -> Direction:
    return "to_producer" if "seq" in event and "sub" not in event else "to_subscriber"
