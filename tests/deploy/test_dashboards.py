"""Node-RED's flow and Telegraf's configuration fit what a server publishes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import tomllib
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from paho.mqtt.client import topic_matches_sub

from stream.sinks.mqtt.message import Message
from tests.support.mqtt_samples import INFO, READABLE, STATS, alert, encoded, live, score, summary
from tests.support.running import ROOT

FLOW: list[dict[str, Any]] = json.loads((ROOT / "deploy/node-red/flows.json").read_text())
TELEGRAF: dict[str, Any] = tomllib.loads((ROOT / "deploy/telegraf/telegraf.conf").read_text())
CONSUMERS: dict[str, dict[str, Any]] = {
    consumer["alias"]: consumer for consumer in TELEGRAF["inputs"]["mqtt_consumer"]
}
NOW = time.time()


def published() -> dict[str, Message]:
    """Return messages of a server by the name of their kind."""
    stream = live(tags=("room:kitchen",))
    spoken = encoded(stream, score())
    stream.last[0] = spoken
    whole = alert(stream).body
    whole = {key: value for key, value in whole.items() if key not in ("channel", "role")}
    _, end = READABLE.ended(stream, NOW, 60)
    return {
        "group": summary(READABLE, "room:kitchen", [stream], NOW),
        "empty group": summary(READABLE, "room:kitchen", [], NOW),
        "score": READABLE.score(stream, spoken.body),
        "end": end,
        "alert": READABLE.alert(stream, alert(stream).body),
        "alert of a call": READABLE.alert(stream, whole),
        "stats": READABLE.stats(STATS, NOW),
        "info": READABLE.info(INFO),
        "online": READABLE.status(True),
    }


MESSAGES = published()


def test_nodes_of_the_flow_lead_to_nodes() -> None:
    known = {node["id"] for node in FLOW}
    assert len(known) == len(FLOW)
    for node in FLOW:
        assert {target for wire in node.get("wires", []) for target in wire} <= known, node["id"]
        if node["type"].startswith("mqtt "):
            assert node["broker"] in known


@pytest.mark.parametrize(
    "topic",
    [node["topic"] for node in FLOW if node["type"] == "mqtt in"]
    + [topic for consumer in CONSUMERS.values() for topic in consumer["topics"]],
)
def test_a_server_publishes_what_dashboards_subscribe_to(topic: str) -> None:
    assert [m for m in MESSAGES.values() if topic_matches_sub(topic, m.topic)], topic


def test_the_flow_reads_json_only_where_it_is_promised() -> None:
    """A node with "a parsed JSON object" logs an error for each empty message of MQTT 3.1.1."""
    assert {node["datatype"] for node in FLOW if node["type"] == "mqtt in"} == {"auto-detect"}


RUN = """
const [code, env, messages] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const store = new Map(), node = { status() {} };
const context = { get: (key) => store.get(key), set: (key, value) => store.set(key, value) };
const run = new Function("msg", "node", "context", "env", code);
const settings = { get: (name) => env[name] };
const answers = messages.map((msg) => run(msg, node, context, settings));
process.stdout.write(JSON.stringify(answers));
"""


def call(name: str, *messages: Mapping[str, object], **env: float) -> list[Any]:
    """Run a function of the flow on messages, in Node; return what it sends on."""
    [code] = [node["func"] for node in FLOW if node.get("name") == name]
    found = shutil.which("node")
    assert found is not None, "node is needed for this test: apt-get install nodejs"
    done = subprocess.run(
        [found, "-e", RUN],
        input=json.dumps([code, env, messages]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def received(kind: str) -> dict[str, object]:
    """Return a message as a node with auto-detection sends it on."""
    message = MESSAGES[kind]
    try:
        return {"topic": message.topic, "payload": orjson.loads(message.payload)}
    except orjson.JSONDecodeError:
        return {"topic": message.topic, "payload": message.payload.decode()}


def test_a_room_has_a_mood() -> None:
    empty = {"topic": MESSAGES["group"].topic, "payload": ""}
    queue = {**received("group"), "topic": "emotide/group/queue%3Abilling/summary"}
    room, ended, *others = call(
        "Mood of a room", received("group"), received("empty group"), empty, queue
    )
    assert room["topic"] == "kitchen"
    assert room["payload"]["mood"] == "neutral"
    assert room["payload"]["activation"] == pytest.approx(0.3, abs=0.01)
    assert (ended["payload"]["mood"], ended["payload"]["activation"]) == ("none", None)
    assert others == [None, None]


def test_voices_are_raised_once_and_calm_again() -> None:
    shown = [
        {"payload": {"room": "kitchen", "activation": x}} for x in (0.1, 0.9, 0.9, 0.6, 0.2, None)
    ]
    sent = call("Raised voices", *shown, RAISED=0.7, CALM=0.5, FOR_S=0)
    assert [message and message["payload"] for message in sent] == [
        "calm",
        "raised",
        None,
        None,
        "calm",
        None,
    ]
    assert sent[0]["topic"] == "house/kitchen/voices"
    assert call("Raised voices", *shown[1:3], RAISED=0.7, CALM=0.5, FOR_S=20) == [None, None]


def test_alerts_and_servers_become_text() -> None:
    channel, whole, empty = call(
        "Text of an alert", received("alert"), received("alert of a call"), {"payload": ""}
    )
    assert channel["payload"] == "anger: new, customer of call-1 (0.80)"
    assert whole["payload"] == "anger: new, call-1 (0.80)"
    assert empty is None
    online, other = call("State of a server", received("online"), received("stats"))
    assert online["payload"] == "Emotide on n1 is online"
    assert other is None


def tags(consumer: Mapping[str, Any], topic: str) -> dict[str, str]:
    """Return the tags of a topic as Telegraf's topic_parsing does, for topics without `#`."""
    found: dict[str, str] = {}
    for rule in consumer["topic_parsing"]:
        expected, levels, names = (text.split("/") for text in (rule["topic"], topic, rule["tags"]))
        assert len(expected) == len(names), f"{rule}: as many tags as levels"
        if topic_matches_sub(rule["topic"], topic):
            found.update({n: v for n, v in zip(names, levels, strict=True) if n not in ("_", "")})
    return found


@pytest.mark.parametrize(
    ("alias", "kind", "expected"),
    [
        ("groups", "group", {"group": "room%3Akitchen"}),
        ("scores", "score", {"role": "customer"}),
        ("scores", "end", {"role": "customer"}),
        ("alerts", "alert", {"role": "customer"}),
        ("alerts", "alert of a call", {}),
        ("nodes", "stats", {"node": "n1"}),
    ],
)
def test_telegraf_reads_tags_from_topics_and_time_from_payloads(
    alias: str, kind: str, expected: dict[str, str]
) -> None:
    consumer, message = CONSUMERS[alias], MESSAGES[kind]
    assert any(topic_matches_sub(topic, message.topic) for topic in consumer["topics"])
    assert tags(consumer, message.topic) == expected
    fields = orjson.loads(message.payload)
    assert consumer["json_time_format"] == "unix_ms"
    assert abs(fields[consumer["json_time_key"]] / 1000 - NOW) < 3600
    if kind != "end":
        assert {*consumer.get("json_string_fields", []), *consumer.get("tag_keys", [])} <= {*fields}


def test_nothing_is_stored_of_the_end_of_a_stream() -> None:
    consumer = CONSUMERS["scores"]
    fields = orjson.loads(MESSAGES["end"].payload)
    numbers = {name for name, value in fields.items() if isinstance(value, int | float)}
    assert numbers - {consumer["json_time_key"], *consumer["fieldexclude"]} == set()


def test_rules_of_telegraf_are_for_topics_that_it_reads() -> None:
    for consumer in CONSUMERS.values():
        assert {rule["topic"] for rule in consumer["topic_parsing"]} <= {*consumer["topics"]}
        assert not consumer.get("persistent_session") or consumer["client_id"]
