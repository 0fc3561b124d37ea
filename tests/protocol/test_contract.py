"""docs/asyncapi.yaml is a valid document, and the server conforms to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, get_args
from urllib.parse import urlencode

import orjson
import pytest
from jsonschema import Draft7Validator

from stream.analysis.quality import hints
from stream.config import Config
from stream.ingest.aliases import DEEPGRAM
from stream.labels import LABELS
from stream.protocol.errors import CLOSE_CODES, RETRYABLE, ProtocolError
from stream.protocol.parsing import (
    parse_files,
    parse_producer,
    parse_query,
    parse_subscriber,
)
from stream.protocol.wire.codes import ClosingCode, EventCode, HttpCode, WarningCode
from stream.protocol.wire.groups import Labels
from stream.protocol.wire.recordings import Stage
from stream.protocol.wire.result import ResultHint
from stream.telemetry.metrics import Metrics
from stream.terms import MAX_CHANNELS, MAX_RATE, MIN_RATE, Encoding, GapReason, Hint, Sound
from stream.types import Quality
from tests.support.clients import Client, connect, stream, subscriber
from tests.support.contract import PATH, Direction, document, messages, resolve, validate, validator
from tests.support.running import Server, running_server
from tests.support.utterances import talk

PARSERS: Mapping[Direction, Callable[[str], Any]] = {
    "from_producer": parse_producer,
    "from_subscriber": parse_subscriber,
    "from_uploader": parse_files,
}
MQTT = [name for name in document()["operations"] if name.startswith("mqtt_")]
PROSE = (PATH, PATH.with_name("protocol.md"))


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


# -- document and code -------------------------------------------------------------------------


def schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = document()["components"]["schemas"][name]
    return schema


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_the_documented_codes_are_those_of_the_server(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    rows = re.findall(r"^ *\| `(\w+)` \| (\d{4}|–) \| (yes|no) \|", text, re.MULTILINE)
    closing = {code: int(close) for code, close, _ in rows if close != "–"}
    assert closing == {code: CLOSE_CODES[code] for code in get_args(ClosingCode)}
    assert {code for code, _, retry in rows if retry == "yes"} == RETRYABLE
    over_http = get_args(HttpCode) if path.suffix == ".md" else ()
    assert sorted(code for code, _, _ in rows) == sorted((*get_args(EventCode), *over_http))


def test_a_close_code_belongs_to_an_error_or_to_a_documented_reason() -> None:
    text = PATH.with_name("protocol.md").read_text(encoding="utf-8")
    others = CLOSE_CODES.keys() - set(get_args(ClosingCode))
    assert others == {"client_closed", "resumed elsewhere"}
    assert "The close 4409 `resumed elsewhere`" in text
    assert CLOSE_CODES["resumed elsewhere"] == 4409


@pytest.mark.parametrize(
    ("names", "page"),
    [
        (Encoding, "protocol.md"),
        (GapReason, "protocol.md"),
        (Hint, "protocol.md"),
        (WarningCode, "protocol.md"),
        (Stage, "protocol.md"),
        (ResultHint, "results.md"),
    ],
    ids=str,
)
def test_the_pages_list_all_names(names: Any, page: str) -> None:
    text = PATH.with_name(page).read_text(encoding="utf-8")
    for name in get_args(names):
        assert f"`{name}`" in text, name


def test_the_reasons_of_windows_and_utterances_are_explained() -> None:
    for name in ("Trigger", "End"):
        for reason in schema(name)["enum"]:
            assert f"`{reason}`" in schema(name)["description"], reason


def test_the_documented_values_are_those_of_the_code() -> None:
    assert tuple(schema("Label")["enum"]) == LABELS
    assert tuple(schema("Scores")["properties"]) == LABELS
    assert tuple(Labels.__annotations__) == LABELS, "labels are fields of MQTT payloads"
    assert set(schema("Quality")["properties"]) == {field.name for field in fields(Quality)}
    worst = Quality(rms_dbfs=-90.0, clipped=1.0, snr_db=0.0, band="narrow", speech_s=0.0)
    listed = get_args(Hint)
    given = [hints(replace(worst, sound=sound), 0.1, one_voice=True) for sound in get_args(Sound)]
    assert {hint for each in given for hint in each} == set(listed)
    assert all(list(each) == [hint for hint in listed if hint in each] for each in given)


def test_the_documented_query_parameters_are_those_of_the_server() -> None:
    """Each documented parameter is accepted, nothing else is, and protocol.md lists the same."""
    query = document()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    for name, parameter in query.items():
        value = resolve(parameter)
        shown = value.get("examples") or value.get("enum") or [value.get("default", "true")]
        text = str(shown[0]).lower()
        parse_query({"sample_rate": ["16000"], name: [text]})
    with pytest.raises(ProtocolError, match="surplus"):
        parse_query({"surplus": ["1"]})
    source = (PATH.with_name("protocol.md")).read_text(encoding="utf-8")
    table = source.partition("## Query parameters")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(set(query))


def test_the_aliases_of_message_types_are_documented() -> None:
    text = PATH.with_name("protocol.md").read_text(encoding="utf-8")
    for alias, name in DEEPGRAM.items():
        assert re.search(rf'"{alias}".*`{re.escape(name)}`', text), alias


# -- the server itself -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def checked(client: Client, direction: Direction) -> set[str]:
    for event in client.events:
        validate(event, direction)
    return {event["type"] for event in client.events}


async def test_a_live_session_conforms_to_the_contract(server: Server) -> None:
    """All events that a producer and a subscriber can get in a session of a few seconds."""

    async with subscriber(server) as listener, connect(server) as producer:
        rule = {"name": "any", "index": "activation", "horizon": "window", "above": 0.0001}
        await listener.send("alert.rules", rules=[rule])
        await listener.until("alert.rules")
        await producer.send("session.update", session={"analysis": {"frames": True}})
        await producer.until("session.updated")
        await producer.audio(talk(4.0), pace_s=0.03)
        await producer.until("audio.ack")

        await producer.send("session.annotate", attrs={"language": "de"}, dtmf="5", mark="m")
        await producer.send("input.pause")
        await producer.send("input.resume", skipped_ms=1500)
        await producer.send("nonsense")
        await producer.audio(talk(2.0), pace_s=0.03)
        await producer.send("input.flush")
        await producer.close_session()

        await listener.until("session.closed")
        await listener.send("list")
        await listener.send("unsubscribe", id="s2")
        await listener.send("unsubscribe", id="s1")
        await listener.until("unsubscribed")
        sent, published = checked(producer, "to_producer"), checked(listener, "to_subscriber")

    documented = {name for name, _ in messages("to_producer")}
    assert sent == documented - {"session.resumed", "stream.gap", "warning", "conversation"}
    answers = {"subscribed", "snapshot", "subscriptions", "unsubscribed", "alert.rules"}
    assert published == answers | (sent - {"audio.ack", "session.created"})


async def test_a_resumed_session_conforms_to_the_contract(server: Server) -> None:
    async with subscriber(server) as listener:
        async with stream(server, stream_id="again") as first:
            await first.audio(talk(2.0))
            await first.until("emotion.score")
        async with connect(
            server, query={"resume": first.token, "last_seq": first.events[0]["seq"]}
        ) as second:
            await second.until("session.resumed")
            await second.close_session()
            assert "emotion.score" in checked(second, "to_producer")
        await listener.until("session.resumed")
        checked(listener, "to_subscriber")


async def test_a_snapshot_conforms_to_the_contract(server: Server) -> None:
    async with stream(server, tag="t") as producer:
        await producer.audio(talk(2.0))
        await producer.until("emotion.score")
        async with subscriber(server, filter={"labels": ["angry"]}) as listener:
            snapshot = await listener.until("snapshot")
            assert snapshot["streams"][0]["last"]
            checked(listener, "to_subscriber")
        listed = await asyncio.to_thread(server.json, "/v1/streams")
        for snapshot in listed["streams"]:
            validator(schema("StreamSnapshot")).validate(snapshot)
        await producer.close_session()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"sample_rate": 16000, "surplus": 1}, "config_invalid"),
        ({"sample_rate": 16000, "encoding": "mp3"}, "unsupported_encoding"),
        ({"sample_rate": 16000, "roles": "agent"}, "agent_channel_forbidden"),
        ({"resume": "rt_unknown"}, "unknown_stream"),
    ],
)
async def test_a_refusal_conforms_to_the_contract(
    server: Server, query: Mapping[str, Any], code: EventCode
) -> None:
    async with connect(server, query=query) as client:
        assert await client.closed() == CLOSE_CODES[code], urlencode(query)
        assert checked(client, "to_producer") == {"error"}
        assert client.events[-1]["code"] == code


def test_info_is_as_documented(server: Server) -> None:
    info = {"v": 1, **server.json("/v1/info")}
    validator(schema("MqttInfo")).validate(info)


def test_the_document_is_served(server: Server) -> None:
    status, headers, body = server.get("/asyncapi.yaml")
    assert (status, headers["content-type"]) == (200, "application/yaml")
    assert body == PATH.read_bytes()


# -- the operator's manual ---------------------------------------------------------------------


def test_the_manual_lists_every_metric() -> None:
    text = PATH.with_name("operations.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(emotide_\w+)` \| (\w+) \|", text, re.MULTILINE))
    exposed = {
        (family.name + "_total" * (family.type == "counter"), family.type)
        for family in Metrics("1").registry.collect()
    }
    # Those of groups exist while there are groups: tests/server/http/test_group_metrics.py.
    groups = {metric for metric in listed if metric[0].startswith("emotide_group_")}
    assert listed - groups == exposed


def test_the_manual_lists_every_limit() -> None:
    text = PATH.with_name("operations.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+\.\w+)` \| (\d+) \|", text, re.MULTILINE))
    config = Config().model_dump()
    for key, default in listed.items():
        section, _, name = key.partition(".")
        assert config[section][name] == int(default), key
    assert {f"limits.{name}" for name in config["limits"]} <= set(listed)
