"""Validation of messages against docs/asyncapi.yaml."""

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
"""Operations of the document that use a WebSocket."""

SECRETS = ("resume_token",)
"""Fields of a producer's events that no subscriber may get."""


@functools.cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return loaded


def resolve(node: Any) -> Any:
    """Return the target of a `$ref` within the document; any other node unchanged."""
    while isinstance(node, dict) and "$ref" in node:
        reference = node["$ref"]
        assert reference.startswith("#/"), f"{reference} leaves the document"
        node = document()
        for step in reference[2:].split("/"):
            assert step in node, f"{reference} points nowhere"
            node = node[step]
    return node


def messages(operation: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the messages of an operation, each with the value of its `type`."""
    for reference in document()["operations"][operation]["messages"]:
        message = resolve(reference)
        yield message.get("name", reference["$ref"].rpartition("/")[2]), message


@functools.cache
def _registry() -> Registry[Any]:
    empty: Registry[Any] = Registry()
    full: Registry[Any] = empty.with_resource(URI, DRAFT7.create_resource(document()))
    return full


def validator(schema: Mapping[str, Any]) -> Draft7Validator:
    """Return a validator of a schema of the document, which may be a reference into it."""
    return Draft7Validator(_absolute(schema), registry=_registry())


def check_result(result: Mapping[str, Any]) -> None:
    """Raise `ValidationError` unless `result` is an `emotide.result.v1` without other keys."""
    validator(document()["components"]["schemas"]["Result"]).validate(result)


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: URI + value if key == "$ref" else _absolute(value) for key, value in schema.items()
        }
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema


@functools.cache
def _validators(direction: Direction) -> Mapping[str, tuple[Draft7Validator, ...]]:
    """Return the validators by type; `error` has two of them towards a subscriber."""
    validators: dict[str, tuple[Draft7Validator, ...]] = {}
    for name, message in messages(direction):
        if message.get("contentType", "application/json") == "application/json":
            validators[name] = (*validators.get(name, ()), validator(message["payload"]))
    return validators


def validate(event: Mapping[str, Any], direction: Direction | None = None) -> None:
    """Raise `AssertionError` with type and path unless the message conforms to the contract.

    Without a `direction` the message is an event of the server: to a producer if it has `seq` and
    no `sub`, otherwise to a subscriber.
    """
    kind = event.get("type")
    where = direction or _direction_of(event)
    known = _validators(where)
    assert kind in known, f"{where}: {kind!r} is not in the contract: {dict(event)}"
    candidates = known[str(kind)]
    if len(candidates) > 1:
        candidates = candidates[:1] if "seq" not in event else candidates[1:]
    error = best_match(candidates[0].iter_errors(event))
    if error is not None:
        raise AssertionError(f"{where}: {kind} {error.json_path}: {error.message} in {dict(event)}")
    if where == "to_producer":
        assert "sub" not in event, f"{where}: {kind} $.sub is for subscribers only: {dict(event)}"
    elif where == "to_subscriber" and "seq" in event:
        assert "sub" in event, f"{where}: {kind} $.sub is missing: {dict(event)}"
        leaked = [name for name in SECRETS if name in event]
        assert not leaked, f"{where}: {kind} $.{leaked} is for the producer only"


def _direction_of(event: Mapping[str, Any]) -> Direction:
    return "to_producer" if "seq" in event and "sub" not in event else "to_subscriber"
