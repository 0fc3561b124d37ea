"""The generated files: the schemas of the contract and of result.json, and types for TypeScript."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin

import yaml

from stream import alert_rules, fields, labels, terms
from stream.protocol import file_options, messages
from stream.protocol.schemas import typescript
from stream.protocol.schemas.types import Schema, SchemaBuilder
from stream.protocol.wire import (
    alerts,
    analysis,
    codes,
    common,
    conversation,
    events,
    groups,
    mqtt,
    notices,
    parts,
    recordings,
    result,
    session,
    settings,
    subscriber,
    trials,
    values,
)

PACKAGE = Path(__file__).resolve().parents[2]
CONTRACT = PACKAGE / "protocol" / "asyncapi.yaml"
RESULT = PACKAGE / "recordings" / "result.schema.json"
TYPESCRIPT = PACKAGE.parent / "client" / "web" / "emotide-protocol.d.ts"

HEAD = "  schemas: # generated from the types: `make schemas`\n"
"""Line of the contract after which everything is generated."""

MODULES: tuple[ModuleType, ...] = (
    terms,
    fields,
    labels,
    alert_rules,
    file_options,
    messages,
    alerts,
    analysis,
    codes,
    common,
    conversation,
    groups,
    mqtt,
    notices,
    parts,
    recordings,
    result,
    session,
    settings,
    subscriber,
    trials,
    values,
)
MESSAGES: tuple[Any, ...] = (
    messages.ProducerMessage,
    messages.SubscriberMessage,
    messages.FilesMessage,
    events.StreamEvent,
    events.Answer,
    events.FileEvent,
)
"""Unions of all messages on WebSockets."""

PAYLOADS = (
    mqtt.MqttInfo,
    mqtt.MqttStats,
    mqtt.MqttState,
    mqtt.MqttScore,
    mqtt.MqttEnd,
    mqtt.MqttSegment,
    mqtt.MqttConversation,
    mqtt.MqttAlert,
    mqtt.MqttEvent,
    mqtt.MqttSummary,
)


WIDTH, FLOW = 120, 90
"""Columns of a line of YAML; characters of JSON that are written on one line."""


def members(union: Any) -> tuple[Any, ...]:
    """Return the classes of a union of messages."""
    return get_args(get_args(union)[0] if get_origin(union) is Annotated else union)


def contract_schemas() -> dict[str, Schema]:
    """Return the schemas of the contract by name, in alphabetical order."""
    builder = SchemaBuilder(MODULES, "#/components/schemas/", closed=True)
    for cls in (*PAYLOADS, *(cls for union in MESSAGES for cls in members(union))):
        builder.reference(cls)
    return dict(sorted(builder.schemas.items()))


def contract_text(current: str) -> str:
    """Return the contract with its written part of `current` and generated schemas.

    Raises ValueError if `current` has no place for them.
    """
    written, head, _ = current.partition(HEAD)
    if not head:
        raise ValueError(f"{CONTRACT.name} has no line {HEAD.strip()!r}")
    return written + head + textwrap.indent(_yaml(contract_schemas()), "    ")


def result_schema() -> Schema:
    """Return `emotide.result.v1` as a JSON Schema (draft 7).

    It is open, unlike the same schema in the contract: it accepts fields that a later version adds.
    """
    builder = SchemaBuilder(MODULES, "#/definitions/", closed=False)
    builder.reference(result.Result)
    body = builder.schemas.pop(result.Result.__name__)
    name = body["properties"]["schema"]["const"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:{name.replace('.', ':')}",
        "title": name,
        **body,
        "definitions": dict(sorted(builder.schemas.items())),
    }


def result_text() -> str:
    """Return the content of result.schema.json."""
    return json.dumps(result_schema(), indent=1, ensure_ascii=False) + "\n"


def typescript_text() -> str:
    """Return the content of emotide-protocol.d.ts: the messages that emotide.js exchanges."""
    builder = SchemaBuilder(MODULES, "#/", closed=True)
    for cls in (messages.SessionUpdate, messages.Subscribe, messages.SessionAnnotate):
        builder.reference(cls)
    unions = {"StreamEvent": events.StreamEvent, "Answer": events.Answer}
    names = {}
    for name, union in unions.items():
        names[name] = tuple(cls.__name__ for cls in members(union))
        for cls in members(union):
            builder.reference(cls)
    return typescript.declarations(dict(sorted(builder.schemas.items())), names)


def documents() -> Iterator[tuple[Path, str]]:
    """Yield the path of each generated file and the content that it should have."""
    yield CONTRACT, contract_text(CONTRACT.read_text(encoding="utf-8"))
    yield RESULT, result_text()
    yield TYPESCRIPT, typescript_text()


class _Dumper(yaml.SafeDumper):
    """Writer of short values on one line, and without anchors for values that occur twice."""

    def represent_data(self, data: Any) -> yaml.Node:
        node = super().represent_data(data)
        if isinstance(node, yaml.CollectionNode):
            simple = all(isinstance(item, yaml.ScalarNode) for item in node.value)
            node.flow_style = simple or len(json.dumps(data)) <= FLOW
        return node

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=WIDTH)
    return text
