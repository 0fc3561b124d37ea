"""Device discovery of Home Assistant: payloads, births, rooms that come and go, a real broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiomqtt
import orjson
import pytest
from jinja2 import Environment

from stream.config import HomeAssistantConfig, PrivacyConfig
from stream.labels import LABELS
from stream.sinks.mqtt import scan
from stream.sinks.mqtt import sink as sink_module
from stream.sinks.mqtt.discovery import Discovery
from stream.sinks.mqtt.home_assistant import MAX_DEVICES, HomeAssistant
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import StreamNames
from stream.sinks.mqtt.topics import Topics
from stream.tenants import DEFAULT
from tests.support.broker import Broker
from tests.support.mqtt import STATUS, Counts, make, publish_utterance, reading, running, until
from tests.support.mqtt_samples import CALM, MODEL, encoded, live, score, summary

TOPICS = Topics("emotide", "n1", StreamNames(None))
KITCHEN = (DEFAULT, "room:kitchen")
CONFIG = "homeassistant/device/emotide_room_kitchen/config"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SCAN_QUIET_S", 0.2)
    monkeypatch.setattr(sink_module, "UPKEEP_S", 0.1)


def discovery(**settings: Any) -> Discovery:
    return Discovery(HomeAssistantConfig(enabled=True, **settings), TOPICS, 10.0)


def body(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(message.payload)
    return found


def rendered(template: str, payload: dict[str, Any]) -> str:
    """Render a template as Home Assistant does: a missing field is an error in its log."""
    environment = Environment()
    return environment.from_string(template).render(value_json=payload)


def test_a_room_has_the_entities_that_home_assistant_accepts() -> None:
    """A component without `unique_id` or `p` makes Home Assistant refuse the whole device."""
    message = discovery().group(KITCHEN, MODEL.labels)
    assert (message.topic, message.qos, message.retain) == (CONFIG, 1, True)
    room = body(message)
    assert room["dev"]["ids"] == ["emotide_room_kitchen"]
    assert room["dev"]["name"] == "Kitchen"
    assert "sa" not in room["dev"], "its entities would be named kitchen_kitchen_speech"
    assert room["o"]["name"] == "emotide"
    assert room["state_topic"] == "emotide/group/room%3Akitchen/summary"
    entities = room["cmps"]
    assert entities.keys() == {*MODEL.labels, "activation", "top", "speech"}
    assert len({entity["unique_id"] for entity in entities.values()}) == len(entities)
    assert all(entity["p"] in ("sensor", "binary_sensor") for entity in entities.values())
    assert all(entity["expire_after"] == 30 for entity in entities.values())
    assert entities["speech"]["device_class"] == "sound"
    assert entities["top"]["options"] == [*LABELS, "none"]
    assert entities["top"]["device_class"] == "enum"
    assert "state_class" not in entities["top"]
    assert room["availability_mode"] == "all"
    assert room["availability"][0] == {"topic": STATUS}


@pytest.mark.parametrize("spoken", [True, False])
def test_templates_never_meet_a_missing_field(spoken: bool) -> None:
    stream = live(tags=("room:kitchen",))
    if spoken:
        stream.last[0] = encoded(stream, score(CALM), ts=10)
        stream.speaking = frozenset({0})
    room = body(discovery().group(KITCHEN, MODEL.labels))
    payload = body(summary(TOPICS, "room:kitchen", [stream], 10))
    shown = {
        name: rendered(entity["value_template"], payload) for name, entity in room["cmps"].items()
    }
    available = rendered(room["availability"][1]["value_template"], payload)
    if spoken:
        assert (shown["neutral"], shown["top"], shown["speech"]) == ("70.0", "neutral", "ON")
    else:
        assert (shown["neutral"], shown["top"], shown["speech"]) == ("None", "none", "OFF")
    assert available == "online"
    withheld = {"group": "x", "withheld": True, "m5": {"withheld": True}}
    group = body(discovery().group((DEFAULT, "queue:a"), MODEL.labels))
    for entity in group["cmps"].values():
        rendered(entity["value_template"], withheld)
    assert rendered(room["availability"][1]["value_template"], withheld) == "offline"
    assert rendered(room["availability"][1]["value_template"], {"streams": 0}) == "offline"


def test_the_server_is_a_device_that_stays_known_when_it_is_offline() -> None:
    node = body(discovery().node())
    connected = node["cmps"]["connected"]
    assert (connected["device_class"], connected["state_topic"]) == ("connectivity", STATUS)
    assert "availability" not in connected
    assert "availability" not in node
    assert node["cmps"]["sessions"]["availability"] == [{"topic": STATUS}]


@pytest.mark.parametrize("tag", ["room:a.b", "room:a_b", "room:a b", "x", "room:Küche", "a:b:c"])
def test_ids_are_valid_and_distinct(tag: str) -> None:
    group = discovery().group((DEFAULT, tag), MODEL.labels)
    name = group.topic.split("/")[2]
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
    others = {DEFAULT: ["room:a-b", "room:a__b"], "acme": [tag, "room:kitchen"]}
    for tenant, tags in others.items():
        for other in tags:
            assert discovery().group((tenant, other), MODEL.labels).topic != group.topic


def test_only_tags_that_stay_become_devices() -> None:
    """A device per call would fill Home Assistant's registry for ever."""
    home = HomeAssistant(discovery(tags=("room:*", "queue:*")), lambda: MODEL.labels)
    groups = [(DEFAULT, tag) for tag in ("room:kitchen", "queue:billing", "ticket:1", "vip")]
    assert len(home.used(groups, 0)) == 2
    assert home.used(groups, 1) == []
    many = [(DEFAULT, f"room:{number}") for number in range(2 * MAX_DEVICES)]
    assert len(home.used(many, 2)) == MAX_DEVICES - 2


def test_a_room_that_is_gone_is_removed_and_may_return() -> None:
    home = HomeAssistant(discovery(forget_after_h=1), lambda: MODEL.labels)
    [room] = home.used([KITCHEN], 0)
    home.used([KITCHEN], 3000)
    assert home.forget(6000) == []
    assert home.forget(6601) == [room.topic]
    assert home.forget(9999) == []
    assert home.all() == []
    assert home.used([KITCHEN], 10_000) == [room]


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"o": {"name": "zigbee2mqtt"}}, False),
        ({"availability": [{"topic": "emotide/node/n2/status"}]}, False),
        ({"availability": "x"}, False),
        ({"o": None}, False),
    ],
)
def test_devices_of_other_programs_and_nodes_are_left_alone(
    change: dict[str, Any], ours: bool
) -> None:
    home = HomeAssistant(discovery(forget_after_h=0), lambda: MODEL.labels)
    payload = orjson.dumps(body(discovery().group(KITCHEN, MODEL.labels)) | change)
    assert home.found(CONFIG, payload, 0) == ours
    assert home.forget(1) == ([CONFIG] if ours else [])
    assert not home.found("homeassistant/device/other/config", payload, 0)
    assert not home.found(CONFIG, b"{", 0)
    assert not home.found(CONFIG, b"", 0)


HOME = {"enabled": True}


async def test_a_room_is_announced_before_its_first_state(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        sink = make(broker.port, home_assistant=HOME)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, live("mic-1", tags=("room:kitchen", "ticket:7")))
            await reader.first(CONFIG)
            await reader.first("emotide/group/room%3Akitchen/summary")
            order = list(reader.received)
            assert order.index(CONFIG) < order.index("emotide/group/room%3Akitchen/summary")
            assert not any("ticket" in topic for topic in order if "homeassistant" in topic)
            devices = [topic for topic in order if topic.startswith("homeassistant")]
            assert len(devices) == 2, "the server and the room"
            await sink.stop(5)
        async with reading(broker.port) as late:
            await late.first(CONFIG)
            await late.last_is(STATUS, b"offline")
            assert late.bodies("emotide/group/room%3Akitchen/summary")[-1]["streams"] == 0


async def test_everything_is_sent_again_when_home_assistant_starts(tmp_path: Path) -> None:
    """A broker that does not retain has forgotten the devices when Home Assistant subscribes."""
    with Broker(tmp_path, options=["retain_available false"]) as broker:
        sink = make(broker.port, home_assistant=HOME)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, live("mic-1", tags=("room:kitchen",)))
            await reader.first(CONFIG)
            await until(lambda: sink.waiting == 0)
            before = len(reader.payloads(CONFIG))
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                for payload in (b"offline", b"", b"online"):
                    await client.publish("homeassistant/status", payload)
            await until(lambda: len(reader.payloads(CONFIG)) > before)
            await until(lambda: len(reader.payloads(STATUS)) > 1)
            assert len(set(reader.payloads(CONFIG))) == 1


async def test_rooms_of_an_earlier_process_are_removed(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        async with reading(broker.port) as reader:
            async with running(sink := make(broker.port, home_assistant=HOME)):
                for room in ("kitchen", "hall"):
                    publish_utterance(sink, live(room, tags=(f"room:{room}",)))
                await reader.first(CONFIG)
                await reader.first(CONFIG.replace("kitchen", "hall"))
            settings = {**HOME, "forget_after_h": 0.0002}
            async with running(sink := make(broker.port, home_assistant=settings)):
                publish_utterance(sink, live("hall", tags=("room:hall",)))
                await reader.last_is(CONFIG, b"")
                assert b"" not in reader.payloads(CONFIG.replace("kitchen", "hall"))


async def test_without_the_right_to_read_devices_are_still_announced(tmp_path: Path) -> None:
    access = ["topic readwrite emotide/#", "topic write homeassistant/#"]
    with Broker(tmp_path, access=access) as broker:
        counts = Counts()
        sink = make(broker.port, counts=counts, home_assistant=HOME)
        async with running(sink):
            publish_utterance(sink, live("mic-1", tags=("room:kitchen",)))
            await until(lambda: sink._scan.done)
            await until(lambda: sink._publisher.retains(CONFIG) and sink.waiting == 0)
            assert counts.connected == [True]
            assert counts.refused == 0


@pytest.mark.parametrize("min_group", [1, 3])
def test_rooms_that_will_be_withheld_are_named_in_the_log(
    min_group: int, caplog: pytest.LogCaptureFixture
) -> None:
    make(1, PrivacyConfig(min_group=min_group), home_assistant=HOME)
    assert ("unavailable in Home Assistant" in caplog.text) == (min_group > 1)


def test_it_is_off_by_default() -> None:
    assert not HomeAssistantConfig().enabled
