"""docs/asyncapi.yaml is a valid document, and its examples are those of the parser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import (
    parse_files,
    parse_producer,
    parse_subscriber,
)
from stream.terms import MAX_CHANNELS, MAX_RATE, MIN_RATE
from tests.support.contract import Direction, document, messages, resolve, validate, validator

PARSERS: Mapping[Direction, Callable[[str], Any]] = {
    "from_producer": parse_producer,
    "from_subscriber": parse_subscriber,
    "from_uploader": parse_files,
}
MQTT = [name for name in document()["operations"] if name.startswith("mqtt_")]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from walk(item)


def examples(operation: str) -> list[Any]:
    return [
        pytest.param(name, example["payload"], id=f"{operation}-{name}-{example.get('name', n)}")
        for name, message in messages(operation)
        for n, example in enumerate(message.get("examples", ()))
    ]


def example_of(name: str) -> dict[str, Any]:
    payload: dict[str, Any] = document()["components"]["messages"][name]["examples"][0]["payload"]
    return payload


# -- the document ------------------------------------------------------------------------------


def test_every_reference_resolves() -> None:
    for node in walk(document()):
        if "$ref" in node:
            resolve(node)


def test_it_is_an_asyncapi_3_document() -> None:
    loaded = document()
    assert loaded["asyncapi"].startswith("3.")
    assert {"title", "version", "description"} <= set(loaded["info"])
    for channel in loaded["channels"].values():
        parameters = set(re.findall(r"{(\w+)}", channel["address"]))
        assert parameters == set(channel.get("parameters", ()))
        assert channel["messages"]
        assert channel["description"]
    for name, operation in loaded["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        home = operation["channel"]["$ref"] + "/messages/"
        assert all(message["$ref"].startswith(home) for message in operation["messages"]), name


def test_every_message_is_used_by_a_channel_and_an_operation() -> None:
    loaded = document()
    in_channels = {
        message["$ref"]: f"#/channels/{name}/messages/{key}"
        for name, channel in loaded["channels"].items()
        for key, message in channel["messages"].items()
    }
    in_operations = [m["$ref"] for o in loaded["operations"].values() for m in o["messages"]]
    assert set(in_channels) == {
        f"#/components/messages/{m}" for m in loaded["components"]["messages"]
    }
    assert set(in_channels.values()) <= set(in_operations)


def test_every_schema_is_valid_and_is_used() -> None:
    loaded = document()
    used = {node["$ref"] for node in walk(loaded) if "$ref" in node}
    for name, schema in loaded["components"]["schemas"].items():
        Draft7Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in used, name


def test_every_message_has_a_summary_and_an_example() -> None:
    for name, message in document()["components"]["messages"].items():
        assert message["summary"], name
        if message.get("contentType") != "application/octet-stream":
            assert message["examples"], name


@pytest.mark.parametrize("direction", ["to_producer", "to_subscriber", "to_uploader"])
def test_schemas_of_server_messages_are_closed(direction: Direction) -> None:
    for name, message in messages(direction):
        schema = resolve(message["payload"])
        assert schema["additionalProperties"] is False, name
        assert {"type", "v", "ts"} <= set(schema["required"]), name
        assert set(schema["required"]) <= set(schema["properties"]), name


# -- examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "payload"), examples("to_producer"))
def test_examples_for_producers(name: str, payload: dict[str, Any]) -> None:
    validate(payload, "to_producer")


@pytest.mark.parametrize(("name", "payload"), examples("to_subscriber"))
def test_examples_for_subscribers(name: str, payload: dict[str, Any]) -> None:
    shared = {key: value for key, value in payload.items() if key != "resume_token"}
    validate({**shared, "sub": "s1"} if "seq" in payload else payload, "to_subscriber")


@pytest.mark.parametrize(("name", "payload"), examples("to_uploader"))
def test_examples_for_uploaders(name: str, payload: dict[str, Any]) -> None:
    validate(payload, "to_uploader")


@pytest.mark.parametrize(("name", "payload"), examples("from_uploader"))
def test_examples_of_uploaders_are_accepted(name: str, payload: dict[str, Any]) -> None:
    validate(payload, "from_uploader")
    assert parse_files(orjson.dumps(payload).decode()).type == name


@pytest.mark.parametrize(
    ("name", "payload"), [example for operation in MQTT for example in examples(operation)]
)
def test_examples_for_mqtt(name: str, payload: Any) -> None:
    messages_by_name = document()["components"]["messages"]
    validator(messages_by_name[f"mqtt.{name}"]["payload"]).validate(payload)


@pytest.mark.parametrize(("name", "payload"), examples("from_producer"))
def test_examples_of_producers_are_accepted(name: str, payload: dict[str, Any]) -> None:
    validate(payload, "from_producer")
    assert parse_producer(orjson.dumps(payload).decode()).type == name


@pytest.mark.parametrize(("name", "payload"), examples("from_subscriber"))
def test_examples_of_subscribers_are_accepted(name: str, payload: dict[str, Any]) -> None:
    validate(payload, "from_subscriber")
    assert parse_subscriber(orjson.dumps(payload).decode()).type == name


def test_the_examples_show_every_field_a_client_may_send() -> None:
    """This takes every key of the schemas through the parser."""
    for direction, parse in PARSERS.items():
        for name, message in messages(direction):
            if "examples" not in message:
                continue
            schema = resolve(message["payload"])
            shown = {key for example in message["examples"] for key in example["payload"]}
            assert shown == set(schema["properties"]), name
            example = message["examples"][-1]["payload"]
            model = type(parse(orjson.dumps(example).decode()))
            assert set(model.model_fields) == set(schema["properties"]), name


# -- refused messages --------------------------------------------------------------------------

BAD_SESSIONS: list[dict[str, Any]] = [
    {"audio": {"encoding": "mp3"}},
    {"audio": {"sample_rate": MIN_RATE - 1}},
    {"audio": {"sample_rate": MAX_RATE + 1}},
    {"audio": {"sample_rate": "fast"}},
    {"audio": {"channels": 0}},
    {"audio": {"channels": MAX_CHANNELS + 1}},
    {"audio": {"roles": ["Customer"]}},
    {"audio": {"roles": ["a b"]}},
    {"audio": {"rate": 16000}},
    {"analysis": {"interval_ms": 249}},
    {"analysis": {"interval_ms": 10_001}},
    {"analysis": {"window_ms": 999}},
    {"analysis": {"window_ms": 10_001}},
    {"analysis": {"analyse_channels": [2]}},
    {"analysis": {"analyse_channels": [-1]}},
    {"analysis": {"frames": "perhaps"}},
    {"analysis": {"hop": 3}},
    {"stream_id": ""},
    {"stream_id": "a/b"},
    {"stream_id": "x" * 65},
    {"tags": ["a b"]},
    {"tags": [f"t{n}" for n in range(9)]},
    {"attrs": 1},
    {"consent": {"basis": "x" * 65}},
    {"consent": {"ref": "x" * 129}},
    {"consent": {"disclosed": "perhaps"}},
    {"publish": {"mqtt": "perhaps"}},
    {"publish": {"kafka": True}},
    {"results": "perhaps"},
    {"model": "large"},
]
BAD: list[tuple[Direction, dict[str, Any]]] = [
    *(("from_producer", {"type": "session.update", "session": bad}) for bad in BAD_SESSIONS),
    ("from_producer", {"type": "session.update", "session": 1}),
    ("from_producer", {"type": "subscribe"}),
    ("from_producer", {"type": "input.resume", "skipped_ms": -1}),
    ("from_producer", {"type": "input.resume", "skipped_ms": 14_400_001}),
    ("from_producer", {"type": "session.annotate", "dtmf": "x"}),
    ("from_producer", {"type": "session.annotate", "dtmf": ""}),
    ("from_producer", {"type": "session.annotate", "mark": "x" * 129}),
    ("from_producer", {"type": "session.annotate", "attrs": []}),
    ("from_producer", {"type": "session.annotate", "objected": "perhaps"}),
    ("from_producer", {}),
    ("from_subscriber", {"type": "session.close"}),
    ("from_subscriber", {"type": "subscribe", "id": ""}),
    ("from_subscriber", {"type": "subscribe", "id": "x" * 65}),
    ("from_subscriber", {"type": "subscribe", "rate_hz": 0}),
    ("from_subscriber", {"type": "subscribe", "rate_hz": 51}),
    ("from_subscriber", {"type": "subscribe", "snapshot": "perhaps"}),
    ("from_subscriber", {"type": "subscribe", "since": {"call-1": "x"}}),
    ("from_subscriber", {"type": "subscribe", "filter": {"stream": ["*"]}}),
    ("from_subscriber", {"type": "subscribe", "filter": {"streams": "*"}}),
    ("from_subscriber", {"type": "subscribe", "filter": {"min_score": {"angry": 2}}}),
    ("from_subscriber", {"type": "subscribe", "filter": {"min_score": {"angry": -0.1}}}),
    ("from_subscriber", {"type": "unsubscribe"}),
]


@pytest.mark.parametrize(("direction", "message"), BAD, ids=lambda value: str(value)[:70])
def test_schemas_and_parser_refuse_the_same_messages(
    direction: Direction, message: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError):
        PARSERS[direction](orjson.dumps(message).decode())
    with pytest.raises(AssertionError, match=re.escape(direction)):
        validate(message, direction)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"surplus": 1}, "surplus"),
        ({"v": 2}, "$.v"),
        ({"seq": -1}, "$.seq"),
        ({"ts": "2026-11-22T21:13:44+01:00"}, "$.ts"),
        ({"scores": {"bored": 0.5}}, "$.scores"),
        ({"scores": {"angry": 1.5}}, "$.scores.angry"),
        ({"rolling": {"10m": {}}}, "$.rolling"),
        ({"hints": ["loud"]}, "$.hints[0]"),
        ({"sub": "s1"}, "$.sub"),
    ],
)
def test_an_invalid_event_fails_with_type_and_path(change: dict[str, Any], path: str) -> None:
    score = example_of("emotion.score")
    with pytest.raises(AssertionError) as caught:
        validate({**score, **change}, "to_producer")
    assert "emotion.score" in str(caught.value)
    assert path in str(caught.value)


def test_a_resume_token_in_an_event_to_a_subscriber_fails() -> None:
    [updated] = [
        p for n, p in (e.values for e in examples("to_producer")) if n == "session.updated"
    ]
    with pytest.raises(AssertionError, match="resume_token"):
        validate({**updated, "sub": "s1"}, "to_subscriber")
