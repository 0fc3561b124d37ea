"""The contracts name every key once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONTRACTS = (
    "stream/protocol/asyncapi.yaml",
    "stream/protocol/openapi.json",
    "stream/recordings/result.schema.json",
)


def repeated(node: yaml.Node) -> Iterator[str]:
    """Yield every key that its mapping has twice, with its line."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield f"{key.value} (line {key.start_mark.line + 1})"
            seen.add(key.value)
            yield from repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated(item)


@pytest.mark.parametrize("name", CONTRACTS)
def test_no_mapping_has_a_key_twice(name: str) -> None:
    """Two merged changes each added /v1/twilio. Python read one; Swagger UI refused the file.

    JSON is read as YAML, of which it is a part.
    """
    node = yaml.compose((ROOT / name).read_text("utf-8"), Loader=yaml.CSafeLoader)
    assert node is not None
    assert not [*repeated(node)]
