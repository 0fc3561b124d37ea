"""MQTT publications match the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest
from jsonschema.exceptions import ValidationError

from stream.delivery.live_stream import LiveStream
from stream.labels import LABELS
from stream.protocol.events import AnalysisEvents, encode
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import StreamNames
from stream.sinks.mqtt.topics import Topics
from stream.sinks.mqtt.utterances import Utterances
from stream.types import (
    Event,
    ModelInfo,
    Quality,
    Score,
    Segment,
    SpeechStart,
)
from tests.support.contract import document, messages, resolve, validator
from tests.support.mqtt_samples import summary

MODEL = ModelInfo("m", "1", LABELS, 320, (48_000,), (1,), 1.0, "Apache-2.0", "cpu")
SHARES = dict.fromkeys(LABELS, 0.1)


def publications() -> Iterator[tuple[str, Message]]:
    """Yield operation and message of every kind of publication of a node."""
    live = LiveStream("call 1", "ses_x", ("customer", "agent"), (0,), ("queue:a",), 1.7e9)
    names = StreamNames(b"key")
    topics = Topics("emotide", "n1", names)
    encoder = AnalysisEvents(live.roles, MODEL)
    quality = Quality(-20.0, 0.0, None, "wide", 2.5)
    rolling = {"10s": SHARES}
    score = Score(0, 0, 0, 32_000, "interval", 0.8, SHARES, rolling, quality, ())
    segment = Segment(0, 0, 0, 32_000, "speech_end", 1.0, SHARES, rolling, quality, ("noisy",))
    silent = Segment(0, 0, 0, 32_000, "split", 0.0, {}, {}, quality, ())
    events: list[Event] = [SpeechStart(0, 0, 0), score, segment, silent]
    encoded = [
        encode(encoder.body(event, 5), n, "ses_x", live.stream_id, 1.7e9)
        for n, event in enumerate(events)
    ]
    live.last[0] = encoded[1]
    acme = replace(live, tenant="acme")
    yield "mqtt_tenant_state", topics.state(acme, 1.7e9)
    for stream, operation in ((acme, "mqtt_tenant"), (live, "mqtt")):
        state, scores = topics.ended(stream, 1.7e9, 60)
        yield f"{operation}_state_end", state
        yield f"{operation}_score_end", scores
        base = state.topic.removesuffix("/state")
        [end] = topics.ends(base, [("agent", "conversation")], 1.7e9, 60)
        yield f"{operation}_conversation_end", end
    yield "mqtt_tenant_score", topics.score(acme, encoded[1].body)
    yield "mqtt_tenant_segment", topics.segment(acme, encoded[2].body)
    yield "mqtt_tenant_summary", summary(topics, "queue:a", [acme], 1.7e9, "acme")
    first = Utterances(acme, names).step(encoded[0].body)
    assert first is not None
    yield "mqtt_tenant_event", topics.change(*first, "acme")
    yield "mqtt_status", topics.status(True)
    yield "mqtt_status", topics.status(False)
    yield "mqtt_state", topics.state(live, 1.7e9)
    yield "mqtt_score", topics.score(live, encoded[1].body)
    yield "mqtt_segment", topics.segment(live, encoded[2].body)
    yield "mqtt_segment", topics.segment(live, encoded[3].body)
    yield "mqtt_summary", summary(topics, "queue:a", [live], 1.7e9)
    yield "mqtt_summary", summary(topics, "queue:a", [], 1.7e9)
    utterances = Utterances(live, names)
    for event in encoded[:3]:
        step = utterances.step(event.body)
        assert step is not None
        yield "mqtt_event", topics.change(*step)


def check_publication(operation: str, message: Message) -> None:
    documented = document()["operations"][operation]
    channel = resolve(documented["channel"])
    address = re.sub(r"\\{\w+\\}", r"[^/]+", re.escape(channel["address"]))
    assert re.fullmatch(address, message.topic), message.topic
    binding = documented["bindings"]["mqtt"]
    assert (binding["qos"], binding["retain"]) == (message.qos, message.retain), operation
    assert binding.get("messageExpiryInterval") == message.expiry_s, operation
    [(_, schema)] = messages(operation)
    assert resolve(schema["headers"])["properties"]["schema"]["const"] == message.schema
    assert schema["bindings"]["mqtt"]["contentType"] == message.content_type
    plain = message.content_type == "text/plain"
    payload = message.payload.decode() if plain else orjson.loads(message.payload)
    try:
        validator(schema["payload"]).validate(payload)
    except ValidationError as error:
        raise AssertionError(f"{operation} {error.json_path}: {error.message}") from None


@pytest.mark.parametrize(("operation", "message"), [*publications()])
def test_mqtt_publications_match_the_contract(operation: str, message: Message) -> None:
    check_publication(operation, message)
