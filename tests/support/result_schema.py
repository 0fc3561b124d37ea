"""Writes docs/result.schema.json from the contract: `python -m tests.support.result_schema`.

The contract, docs/asyncapi.yaml, describes every message; whoever only reads result.json gets the
same schema by itself, for any JSON Schema validator. The contract is closed, because it says what
this server does; a reader's schema tolerates fields that a later one adds.
"""

from __future__ import annotations

import json
from typing import Any

from stream.recordings.result import SCHEMA
from tests.support.contract import PATH as CONTRACT
from tests.support.contract import document

PATH = CONTRACT.with_name("result.schema.json")
POINTER = "#/components/schemas/"


def schema() -> dict[str, Any]:
    """`emotide.result.v1` as a JSON Schema (draft 7) of its own."""
    schemas = document()["components"]["schemas"]
    definitions: dict[str, Any] = {}

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].removeprefix(POINTER)
            if name not in definitions:
                definitions[name] = None  # found; not to be gone into twice
                definitions[name] = moved(schemas[name])
            return {"$ref": f"#/definitions/{name}"}
        closed = ("additionalProperties", False)
        return {key: moved(value) for key, value in node.items() if (key, value) != closed}

    body = moved(schemas["Result"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:{SCHEMA.replace('.', ':')}",
        "title": SCHEMA,
        **body,
        "definitions": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The file as it must be."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
