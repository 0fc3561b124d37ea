"""Generator of docs/result.schema.json: `python -m tests.support.result_schema`.

The contract, docs/asyncapi.yaml, describes every message. Programs that only read result.json get
its schema as a file of its own, for any JSON Schema validator. The schemas of the contract are
closed, because they describe exactly what this version sends; the generated schema accepts fields
that a later version adds.
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
    """Return `emotide.result.v1` as a self-contained JSON Schema (draft 7)."""
    schemas = document()["components"]["schemas"]
    definitions: dict[str, Any] = {}

    def copied(node: Any) -> Any:
        if isinstance(node, list):
            return [copied(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].removeprefix(POINTER)
            if name not in definitions:
                definitions[name] = None  # marks the name as visited, against endless recursion
                definitions[name] = copied(schemas[name])
            return {"$ref": f"#/definitions/{name}"}
        closed = ("additionalProperties", False)
        return {key: copied(value) for key, value in node.items() if (key, value) != closed}

    body = copied(schemas["Result"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:{SCHEMA.replace('.', ':')}",
        "title": SCHEMA,
        **body,
        "definitions": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Return the content of the file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
