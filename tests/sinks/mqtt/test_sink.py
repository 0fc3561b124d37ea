"""The MQTT sink with a real broker: its topics, its birth and will, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from stream.config import PrivacyConfig
from stream.sinks.mqtt import topics
from tests.support.broker import Broker, free_port
from tests.support.mqtt import (
    EXPECTED,
    STATUS,
    make,
    publish_utterance,
    reading,
    running,
    until,
)
from tests.support.mqtt_samples import (
    ANGRY,
    CALM,
    encoded,
    live,
    score,
    segment,
    start,
)

ROOT = Path(__file__).parents[3]


async def test_every_topic_with_its_delivery(broker: Broker) -> None:
    sink = make(broker.port)
    async with reading(broker.port) as reader, running(sink):
        publish_utterance(sink, live(tags=("sales",)))
        for topic, (qos, retain, expiry, schema) in EXPECTED.items():
            message = await reader.first(topic)
            properties: Any = message.properties
            assert (message.qos, bool(message.retain)) == (qos, retain), topic
            assert dict(properties.UserProperty) == {"schema": schema}
            assert properties.PayloadFormatIndicator == 1
            kind = "text/plain" if topic == STATUS else "application/json"
            assert properties.ContentType == kind
            remaining = getattr(properties, "MessageExpiryInterval", None)
            # The broker and the sink both count down in whole seconds.
            assert remaining in ((None,) if expiry is None else range(expiry - 15, expiry + 1)), (
                topic
            )
        await until(lambda: len(reader.payloads("emotide/events")) == 3)
        kinds = [body["type"] for body in reader.bodies("emotide/events")]
        assert kinds == ["new", "update", "end"]
        assert reader.received.keys() == EXPECTED.keys()


async def test_a_retained_score_expires(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "SCORE_EXPIRY_S", 1)

    sink, stream = make(broker.port), live()
    topic = "emotide/stream/call-1/customer/score"
    async with running(sink):
        async with reading(broker.port) as reader:
            publish_utterance(sink, stream)
            await reader.first(topic)
            await asyncio.sleep(2.2)
            assert len(reader.payloads(topic)) == 1, "the broker deletes it by itself"
        async with reading(broker.port) as late:
            await late.first("emotide/stream/call-1/state")
            await late.first(STATUS)
            assert topic not in late.received


SINK_PROCESS = """
import asyncio, sys
from stream.config import MqttConfig, PrivacyConfig
from stream.sinks.mqtt.sink import MqttSink

config = MqttConfig(host="127.0.0.1", port=int(sys.argv[1]))
asyncio.run(MqttSink(config, PrivacyConfig(), "n1", dict, dict).run())
"""


def spawn(port: int) -> subprocess.Popen[bytes]:
    """Run a sink in a process of its own."""
    command = [sys.executable, "-c", SINK_PROCESS, str(port)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})


async def test_birth_and_will_of_a_killed_process(broker: Broker) -> None:
    async with reading(broker.port) as reader:
        process = spawn(broker.port)
        try:
            await reader.last_is(STATUS, b"online")
            process.send_signal(signal.SIGKILL)
            await reader.last_is(STATUS, b"offline")
            assert reader.received[STATUS][-1].retain
            properties: Any = reader.received[STATUS][-1].properties
            assert dict(properties.UserProperty) == {"schema": "emotide.status.v1"}
        finally:
            process.kill()
            process.wait(10)
        async with running(make(broker.port)):
            await reader.last_is(STATUS, b"online")


async def test_a_cancelled_sink_leaves_its_will(broker: Broker) -> None:
    async with reading(broker.port) as reader:
        async with running(make(broker.port)):
            await reader.last_is(STATUS, b"online")
        await reader.last_is(STATUS, b"offline")


async def test_a_clean_stop_delivers_and_leaves_no_stream_behind(broker: Broker) -> None:
    sink = make(broker.port, clear_state_after_s=1)
    async with reading(broker.port) as reader, running(sink) as task:
        await reader.last_is(STATUS, b"online")
        stream = live(tags=("sales",))
        publish_utterance(sink, stream)
        await reader.first("emotide/group/sales/summary")
        for number in range(300):
            sink.event(stream, encoded(stream, segment(utterance=number)))
        began = time.monotonic()
        await sink.stop(30)
        assert time.monotonic() - began < 20, "it did not wait for the time limit"
        await asyncio.wait_for(task, 30)
        await reader.last_is(STATUS, b"offline")
        assert len(reader.payloads("emotide/stream/call-1/customer/segment")) == 301
        assert reader.bodies("emotide/stream/call-1/state")[-1]["state"] == "ended"
        assert reader.bodies("emotide/stream/call-1/customer/score")[-1]["state"] == "ended"
        assert reader.bodies("emotide/group/sales/summary")[-1]["streams"] == 0
        assert all(b"" not in reader.payloads(topic) for topic in EXPECTED)
    assert sink.waiting == 0
    await asyncio.sleep(1.0)
    async with reading(broker.port) as late:
        assert (await late.first(STATUS)).payload == b"offline"
        await late.first("emotide/node/n1/info")
        await asyncio.sleep(0.3)
        assert not any("/stream/" in topic for topic in late.received)


async def test_stopping_a_sink_that_does_not_run_returns() -> None:
    await make(free_port()).stop(1)


async def test_an_ended_stream_says_so_in_json_and_expires(broker: Broker) -> None:
    """Fault of the first version: it ended topics with empty messages. Home Assistant logged four
    errors for each and kept the old numbers, Node-RED failed to parse it.
    """
    sink, stream = make(broker.port, clear_state_after_s=0.1), live()
    state, scores = (f"emotide/stream/call-1/{leaf}" for leaf in ("state", "customer/score"))
    async with reading(broker.port) as reader, running(sink):
        publish_utterance(sink, stream)
        await reader.first(scores)
        sink.event(stream, encoded(stream, start(utterance=1)))
        stream.state = "paused"
        sink.changed(stream)
        await until(lambda: reader.bodies(state)[-1:][0]["state"] == "paused")
        stream.state = "ended"
        sink.closed(stream)
        await reader.ends(scores)
        await reader.ends(state)
        change = reader.bodies("emotide/events")[-1]
        assert (change["type"], change["after"]["utterance"]) == ("end", 1)
        before = sink.waiting
        sink.event(stream, encoded(stream, score()))
        sink.closed(stream)
        assert sink.waiting == before, "nothing is published after the end"
        await asyncio.sleep(1.0)
        await until(lambda: not sink._publisher.retains(state))
        assert b"" not in reader.payloads(state) + reader.payloads(scores)
    async with reading(broker.port) as late:
        await late.first(STATUS)
        assert not any("/stream/" in topic for topic in late.received)


async def test_a_taken_over_id_belongs_to_the_newer_stream(broker: Broker) -> None:
    sink = make(broker.port, clear_state_after_s=0.0)
    old, new = live(), live(roles=("agent",))
    state = "emotide/stream/call-1/state"
    async with reading(broker.port) as reader, running(sink):
        publish_utterance(sink, old)
        sink.opened(new)
        old.state = "ended"
        sink.event(old, encoded(old, score(ANGRY)))
        sink.closed(old)
        sink.event(new, encoded(new, score(CALM)))
        await reader.first("emotide/stream/call-1/agent/score")
        await asyncio.sleep(0.3)
        assert reader.bodies(state)[-1]["roles"] == ["agent"]
        assert reader.payloads(state)[-1] != b""


async def test_a_stream_may_stay_private(broker: Broker) -> None:
    sink, hidden, later = make(broker.port), live("hidden", mqtt=False), live("later")
    hidden.tags = ("sales",)
    async with reading(broker.port) as reader, running(sink):
        publish_utterance(sink, hidden)
        sink.changed(hidden)
        sink.closed(hidden)
        publish_utterance(sink, later)
        await reader.first("emotide/stream/later/customer/alert")
        later.mqtt = False
        sink.changed(later)
        sink.event(later, encoded(later, score(ANGRY)))
        for leaf in ("state", "customer/score"):
            topic = f"emotide/stream/later/{leaf}"
            await reader.ends(topic)
        await reader.first("emotide/node/n1/stats")
        assert not any("hidden" in topic or "group" in topic for topic in reader.received)


async def test_stream_ids_are_hashed_by_default(broker: Broker) -> None:
    async def names(privacy: PrivacyConfig) -> set[str]:
        sink = make(broker.port, privacy)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, live("+49301234567"))
            await until(lambda: any("/alert" in topic for topic in reader.received))
            assert not any("49301234567" in topic for topic in reader.received)
            for messages in reader.received.values():
                assert not any(b"49301234567" in bytes(m.payload) for m in messages)
            await sink.stop(2)
            return {t.split("/")[2] for t in reader.received if t.startswith("emotide/stream/")}

    one, two = await names(PrivacyConfig()), await names(PrivacyConfig())
    assert one != two, "a new key at every start"
    keyed = PrivacyConfig(hash_key=SecretStr("pepper"))
    assert await names(keyed) == await names(keyed)


@pytest.mark.parametrize("name", ["a/+/#", "#", "$SYS/x", "Grüße 😀", "\x00"])
async def test_no_id_injects_a_topic(broker: Broker, name: str) -> None:
    sink = make(broker.port)
    async with reading(broker.port) as reader, running(sink):
        publish_utterance(sink, live(name, roles=(name,), tags=(name,)))
        await until(lambda: any("/alert" in topic for topic in reader.received))
        await until(lambda: any("/summary" in topic for topic in reader.received))
        for topic in reader.received:
            assert topic.isascii()
            assert topic.split("/")[1] in ("node", "stream", "group", "events")
            assert len(topic.split("/")) == (2 if topic.endswith("events") else 4) + (
                topic.endswith(("score", "segment", "alert"))
            )


async def test_a_group_is_summed_up(broker: Broker) -> None:
    sink = make(broker.port)
    one, two = live("a", tags=("sales",)), live("b", tags=("sales",))
    topic = "emotide/group/sales/summary"
    async with reading(broker.port) as reader, running(sink):
        for stream, scores in ((one, CALM), (two, ANGRY)):
            sink.opened(stream)
            stream.speaking = frozenset({0})
            stream.last[0] = encoded(stream, score(scores))
            sink.event(stream, stream.last[0])
        await until(lambda: [b["streams"] for b in reader.bodies(topic)][-1:] == [2])
        summary = reader.bodies(topic)[-1]
        assert summary["angry"] == pytest.approx(0.45)
        assert (summary["top"], summary["speaking"]) == ("angry", 2)
        two.tags = ("support",)
        sink.changed(two)
        sink.closed(one)
        await until(lambda: [b["streams"] for b in reader.bodies(topic)][-1:] == [0])
        other = "emotide/group/support/summary"
        await until(lambda: [b["streams"] for b in reader.bodies(other)][-1:] == [1])


async def test_scores_are_throttled_and_the_newest_is_published(broker: Broker) -> None:
    sink, stream = make(broker.port, score_rate_hz=4), live()
    topic = "emotide/stream/call-1/customer/score"
    async with reading(broker.port) as reader, running(sink):
        await reader.last_is(STATUS, b"online")
        sink.opened(stream)
        began = time.monotonic()
        for number in range(100):
            sink.event(stream, encoded(stream, score(end_ms=3000 + number)))
            await asyncio.sleep(0.005)
        await until(lambda: [b["audio_ms"] for b in reader.bodies(topic)][-1:] == [3099])
        assert 2 <= len(reader.bodies(topic)) <= 2 + 4 * (time.monotonic() - began)
