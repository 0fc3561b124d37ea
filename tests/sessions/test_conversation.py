"""The conversation of a session: its event, its end, its place in the snapshot, and on MQTT."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from stream.config import Config
from stream.protocol.messages import SessionConfig
from stream.sinks.mqtt.names import StreamNames
from stream.sinks.mqtt.payloads import SIDE
from stream.sinks.mqtt.topics import Topics
from tests.support.contract import document, validate, validator
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection, Sessions
from tests.support.utterances import talk

STEREO = SessionConfig.model_validate({"stream_id": "call", "audio": {"channels": 2}})


def stereo(customer: bytes, agent: bytes) -> bytes:
    sides = [np.frombuffer(side, "<i2") for side in (customer, agent)]
    length = max(map(len, sides))
    return np.stack([np.pad(side, (0, length - len(side))) for side in sides], 1).tobytes()


CALL = stereo(talk(3.0), b"\0" * 32_000 * 6 + talk(5.0, "13a01Lb.flac"))


async def heard(
    config: Config | None = None, request: SessionConfig = STEREO, reason: Any = "completed"
) -> tuple[FakeConnection, Sessions, Any]:
    """Return the connection of a producer after a call of 11 s of which both sides talked."""
    sessions = Sessions(config=config)
    await sessions.scheduler.start(LENGTHS)
    session, connection = await sessions.open(request=request)
    for start in range(0, len(CALL), 12_800):
        session.audio(CALL[start : start + 12_800])
    await until(lambda: session._pipeline.received * 4 >= len(CALL) - 12_800)
    snapshot = session.live.snapshot()
    await sessions.registry.finish(session, reason)
    await sessions.scheduler.stop(1.0)
    return connection, sessions, snapshot


def bodies(connection: FakeConnection, kind: str) -> list[Any]:
    return [event for event in connection.events if event["type"] == kind]


async def test_a_call_with_two_voices_reports_who_talks() -> None:
    connection, _, snapshot = await heard()
    events = bodies(connection, "conversation")
    assert len(events) == 2, "after every 5 s"
    for event in events:
        validate(event, "to_producer")
    assert snapshot["conversation"] == events[-1]
    [closed] = bodies(connection, "session.closed")
    validate(closed, "to_producer")
    customer, agent = closed["conversation"]["call"]["sides"]
    assert (customer["role"], agent["role"]) == ("customer", "agent")
    assert customer["turns"] == agent["turns"] == 1
    assert customer["talk_share"] + agent["talk_share"] == 1
    assert agent["response_ms"] > 2000
    assert closed["conversation"]["call"]["dead_air_ms"] >= 3000
    [created] = bodies(connection, "session.created")
    assert created["session"]["analysis"]["activity_channels"] == [0, 1]
    assert {event["channel"] for event in connection.events if "channel" in event} == {0}


async def test_a_deployer_can_switch_it_off() -> None:
    """`privacy.activity_roles = []`: the agent's channel reaches no detector."""
    config = Config.model_validate({"limits": {"ahead_s": 1e9}, "privacy": {"activity_roles": []}})
    connection, _, snapshot = await heard(config)
    assert bodies(connection, "conversation") == []
    assert "conversation" not in snapshot
    assert "conversation" not in bodies(connection, "session.closed")[0]
    [created] = bodies(connection, "session.created")
    assert created["session"]["analysis"]["activity_channels"] == []


async def test_an_objection_and_a_producer_without_results_get_none() -> None:
    connection, _, _ = await heard(reason="objected")
    assert "conversation" not in bodies(connection, "session.closed")[0]
    silent = SessionConfig.model_validate({"audio": {"channels": 2}, "results": False})
    connection, _, _ = await heard(request=silent)
    assert bodies(connection, "conversation") == []


async def test_each_channel_has_flat_measures_on_mqtt() -> None:
    connection, _, _ = await heard()
    event = bodies(connection, "conversation")[0]
    session = connection.session
    assert session is not None
    topics = Topics("emotide", "n1", StreamNames(None))
    customer, agent = topics.conversation(session.live, event)
    assert customer.topic == "emotide/stream/call/customer/conversation"
    assert agent.topic == "emotide/stream/call/agent/conversation"
    ends = [message.topic for message in topics.ended(session.live, 0, 60)]
    assert ends[-2:] == [customer.topic, agent.topic]
    assert (customer.qos, customer.retain, customer.expiry_s) == (0, True, 30)
    payload = orjson.loads(customer.payload)
    validator(document()["components"]["schemas"]["MqttConversation"]).validate(payload)
    side = event["minute"]["sides"][0]
    assert {name: payload.get(name) for name in SIDE} == {name: side[name] for name in SIDE}
    assert payload["call_dead_air_ms"] == event["call"]["dead_air_ms"]
