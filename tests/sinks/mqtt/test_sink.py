"""The MQTT sink with a real broker that starts, stops, loses messages, refuses and stalls."""

from __future__ import annotations

import asyncio
import gc
import logging
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
from stream.delivery.live_stream import LiveStream
from stream.sinks.mqtt import client, outages, topics
from stream.sinks.mqtt import sink as sink_module
from stream.sinks.mqtt.sink import MqttSink
from tests.support.broker import Broker, MqttProxy, SilentBroker, free_port
from tests.support.mqtt import (
    STATUS,
    Counts,
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
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[3]


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Broker(tmp_path) as broker:
        yield broker


EXPECTED = {
    STATUS: (1, True, None, "emotide.status.v1"),
    "emotide/node/n1/info": (1, True, None, "emotide.info.v1"),
    "emotide/node/n1/stats": (0, True, 120, "emotide.stats.v1"),
    "emotide/stream/call-1/state": (1, True, 86_400, "emotide.state.v1"),
    "emotide/stream/call-1/customer/score": (0, True, 30, "emotide.score.v1"),
    "emotide/stream/call-1/customer/segment": (1, False, 3600, "emotide.segment.v1"),
    "emotide/stream/call-1/customer/alert": (1, False, 3600, "emotide.alert.v1"),
    "emotide/events": (1, False, 3600, "emotide.event.v1"),
    "emotide/group/sales/summary": (0, True, 120, "emotide.summary.v1"),
}


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
            assert remaining in ((None,) if expiry is None else (expiry, expiry - 1)), topic
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
        await sink.stop(5)
        assert time.monotonic() - began < 3
        await asyncio.wait_for(task, 1)
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


async def test_a_clean_stop_empties_a_broker_without_expiry(broker: Broker) -> None:
    """Over MQTT 3.1.1 nothing expires: the last JSON of each topic is deleted after it is sent."""
    async with MqttProxy(broker.port, b"\x20\x03\x00\x84\x00") as proxy:
        sink = make(proxy.port)
        async with reading(broker.port) as reader, running(sink) as task:
            publish_utterance(sink, live(tags=("sales",)))
            await reader.first("emotide/group/sales/summary")
            await sink.stop(5)
            await asyncio.wait_for(task, 1)
            await reader.last_is(STATUS, b"offline")
            for topic in EXPECTED:
                if topic.endswith(("state", "score", "summary", "stats")):
                    await reader.last_is(topic, b"")
            assert reader.bodies("emotide/stream/call-1/state")[-1]["state"] == "ended"
            assert reader.bodies("emotide/group/sales/summary")[-1]["streams"] == 0
    async with reading(broker.port) as late:
        await late.first(STATUS)
        await late.first("emotide/node/n1/info")
        assert len(late.received) == 2


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


async def test_a_stream_that_ends_during_an_outage_is_ended_on_the_broker(tmp_path: Path) -> None:
    """Its end had expired before the broker was back, which would have shown it as active for a
    day.
    """
    topic = "emotide/stream/call-1/state"
    with Broker(tmp_path, persistent=True, options=["autosave_interval 0"]) as broker:
        sink, stream = make(broker.port, clear_state_after_s=1), live()
        async with TcpProxy(broker.port) as proxy:
            sink = make(proxy.port, clear_state_after_s=1)
            async with running(sink):
                publish_utterance(sink, stream)
                async with reading(broker.port) as reader:
                    await reader.first(topic)
                    await until(lambda: sink.waiting == 0)
                    proxy.refusing = True
                    proxy.reset()
                    await reader.last_is(STATUS, b"offline")
                    sink.closed(stream)
                    await asyncio.sleep(1.0)
                    await asyncio.sleep(1.0)
                    assert reader.bodies(topic)[-1]["state"] == "active"
                    proxy.refusing = False
                    await reader.ends(topic)


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
        for number in range(100):
            sink.event(stream, encoded(stream, score(end_ms=3000 + number)))
            await asyncio.sleep(0.005)
        await until(lambda: [b["audio_ms"] for b in reader.bodies(topic)][-1:] == [3099])
        assert 2 <= len(reader.bodies(topic)) <= 6


async def test_a_broker_that_is_down_at_start(tmp_path: Path) -> None:
    broker = Broker(tmp_path)

    counts = Counts()
    sink = make(broker.port, counts=counts)
    async with running(sink):
        stream = live()
        publish_utterance(sink, stream)
        await asyncio.sleep(0.3)
        assert counts.connected == []
        with broker:
            async with reading(broker.port) as reader:
                for topic in EXPECTED:
                    if "group" not in topic:
                        await reader.first(topic)
        assert counts.dropped == 0


async def test_a_broker_that_lost_its_retained_messages_gets_them_again(broker: Broker) -> None:
    counts = Counts()
    sink, stream = make(broker.port, counts=counts), live(tags=("sales",))
    async with running(sink):
        async with reading(broker.port) as reader:
            publish_utterance(sink, stream)
            for topic in EXPECTED:
                await reader.first(topic)
        broker.kill()
        await until(lambda: counts.connected == [True, False])
        ended = live("gone")
        publish_utterance(sink, ended)
        sink.closed(ended)
        sink.event(stream, encoded(stream, segment(ANGRY, utterance=7)))
        broker.start()
        async with reading(broker.port) as reader:
            for topic, (_, retained, _, _) in EXPECTED.items():
                if retained:
                    await reader.first(topic)
            assert reader.payloads(STATUS)[-1] == b"online"
            await until(lambda: sink.waiting == 0)
            [gone] = reader.bodies("emotide/stream/gone/customer/score")
            assert gone["state"] == "ended"
        assert counts.connected == [True, False, True]


async def test_messages_in_flight_are_sent_again(broker: Broker) -> None:
    counts = Counts()
    topic = "emotide/stream/call-1/customer/segment"
    async with (
        reading(broker.port) as reader,
        TcpProxy(broker.port) as proxy,
        running(sink := make(proxy.port, counts=counts)),
    ):
        stream = live()
        sink.opened(stream)
        await reader.first("emotide/node/n1/stats")
        await until(lambda: sink.waiting == 0)
        proxy.up.stalled = True
        for number in range(30):
            sink.event(stream, encoded(stream, segment(utterance=number)))
        await asyncio.sleep(0.2)
        assert topic not in reader.received
        proxy.reset()
        await until(lambda: counts.connected == [True, False])
        proxy.up.stalled = False
        await until(lambda: len(reader.payloads(topic)) == 30)
        utterances = [body["utterance"] for body in reader.bodies(topic)]
        assert utterances == list(range(30)), "in order"
        assert counts.failed >= 1


async def test_a_wrong_password_is_logged_once_as_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "RETRY_MAX_S", 0.1)
    caplog.set_level(logging.DEBUG)

    with Broker(tmp_path, user=("emotide", "right")) as broker:
        counts = Counts()
        sink = make(broker.port, counts=counts, username="emotide", password=SecretStr("wrong-one"))
        async with running(sink):
            publish_utterance(sink, live())
            await until(lambda: caplog.text.count("MQTT connection refused") >= 3)
        assert counts.connected == []
        assert counts.sent == 0
        good = make(broker.port, username="emotide", password=SecretStr("right"))
        async with running(good), reading(broker.port, ("emotide", "right")) as reader:
            await reader.last_is(STATUS, b"online")
    [warning] = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.getMessage() == "MQTT connection refused"
    assert "Not authorized" in vars(warning)["reason"]
    assert "mqtt.password" in vars(warning)["reason"]
    assert "wrong-one" not in caplog.text
    assert not any("wrong-one" in str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize(
    "refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"], ids=["as-3.1.1", "as-5"]
)
async def test_a_broker_without_mqtt_5(
    broker: Broker, refusal: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "SCORE_EXPIRY_S", 1)
    monkeypatch.setattr(sink_module, "UPKEEP_S", 0.1)

    stream = live(tags=("sales",))
    async with (
        reading(broker.port) as reader,
        MqttProxy(broker.port, refusal) as proxy,
        running(sink := make(proxy.port, clear_state_after_s=1)),
    ):
        publish_utterance(sink, stream)
        for topic, (qos, retain, _, _) in EXPECTED.items():
            message = await reader.first(topic)
            assert (message.qos, bool(message.retain)) == (qos, retain), topic
            assert not hasattr(message.properties, "MessageExpiryInterval")
            assert not hasattr(message.properties, "UserProperty")
        assert proxy.refused == 1
        proxy.reset()
        await reader.last_is(STATUS, b"offline")
        await reader.last_is(STATUS, b"online")
        scores = "emotide/stream/call-1/customer/score"
        assert b"" not in reader.payloads(scores), "the topic of a live stream promises JSON"
        sink.closed(stream)
        await reader.last_is(scores, b"")
        assert reader.bodies(scores)[-1]["state"] == "ended", "JSON before the deletion"


LONGEST_S = 0.5
"""Limit of one call of a sink; a broker that is waited for takes seconds."""


def longest(sink: MqttSink, stream: LiveStream, events: int) -> float:
    """Return the duration in seconds of the slowest publication of a score and a segment."""
    scores = [encoded(stream, score(end_ms=3000 + n)) for n in range(events)]
    segments = [encoded(stream, segment(utterance=n)) for n in range(events)]
    worst = 0.0
    # A garbage collection after a long test run takes 0.1 s by itself; it must not count here.
    gc.collect()
    gc.disable()
    try:
        for one, other in zip(scores, segments, strict=True):
            began = time.perf_counter()
            sink.event(stream, one)
            sink.event(stream, other)
            worst = max(worst, time.perf_counter() - began)
    finally:
        gc.enable()
    return worst


async def test_a_broker_that_never_answers_delays_no_call() -> None:
    counts = Counts()
    async with SilentBroker() as silent, running(make(silent.port, counts=counts, outbox=100)):
        await until(lambda: silent.accepted == 1)
        sink = make(silent.port, counts=counts, outbox=100)
        stream = live()
        async with running(sink):
            sink.opened(stream)
            assert longest(sink, stream, 2000) < LONGEST_S
            assert sink.waiting <= 100
            # Each segment is one message and ends one utterance.
            assert counts.dropped == 2 * 2000 - 100
            began = time.monotonic()
            await sink.stop(0.2)
        assert time.monotonic() - began < 1, "neither stop nor cancel waits for an answer"
    assert counts.connected == []


async def test_an_unanswered_handshake_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.2)

    async with SilentBroker() as silent, running(make(silent.port)):
        await until(lambda: silent.accepted >= 3)


async def test_a_stalled_broker_gets_the_newest_messages_when_it_continues(broker: Broker) -> None:
    counts = Counts()
    sink, stream = make(broker.port, counts=counts, outbox=100), live()
    topic = "emotide/stream/call-1/customer/score"
    async with reading(broker.port) as reader, running(sink):
        sink.opened(stream)
        await reader.first("emotide/stream/call-1/state")
        await until(lambda: sink.waiting == 0)
        broker.pause()
        try:
            for round_ in range(10):
                assert longest(sink, stream, 500) < LONGEST_S
                assert sink.waiting <= 100 + 8 + 5, round_
                await asyncio.sleep(0.03)
            assert counts.dropped > 0
        finally:
            broker.resume()
        await until(lambda: sink.waiting == 0)
        await until(lambda: [b["audio_ms"] for b in reader.bodies(topic)][-1:] == [3499])
        assert len(reader.payloads(topic)) < 20, "scores conflate"
        assert counts.connected == [True]


async def test_a_stalled_broker_is_disconnected_and_connected_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.3)

    counts = Counts()
    sink, stream = make(broker.port, counts=counts), live()
    async with running(sink):
        sink.opened(stream)
        await until(lambda: counts.connected == [True])
        await until(lambda: sink.waiting == 0)
        broker.pause()
        try:
            sink.event(stream, encoded(stream, segment(utterance=9)))
            await until(lambda: counts.connected == [True, False])
        finally:
            broker.resume()
        await until(lambda: counts.connected == [True, False, True])
        await until(lambda: sink.waiting == 0)
