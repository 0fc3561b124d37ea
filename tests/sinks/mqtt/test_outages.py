"""The MQTT sink with a broker that starts late, loses messages, refuses, stalls or lacks MQTT 5."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import tracemalloc
from pathlib import Path

import pytest
from pydantic import SecretStr

from stream.delivery.live_stream import LiveStream
from stream.sinks.mqtt import client, outages, topics
from stream.sinks.mqtt import sink as sink_module
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.sink import MqttSink
from tests.support.broker import Broker, MqttProxy, SilentBroker, free_port
from tests.support.mqtt import (
    EXPECTED,
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
    encoded,
    live,
    score,
    segment,
)
from tests.support.tcp_proxy import TcpProxy


async def test_a_clean_stop_empties_a_broker_without_expiry(broker: Broker) -> None:
    """Over MQTT 3.1.1 nothing expires: the last JSON of each topic is deleted after it is sent."""
    async with MqttProxy(broker.port, b"\x20\x03\x00\x84\x00") as proxy:
        sink = make(proxy.port)
        async with reading(broker.port) as reader, running(sink) as task:
            publish_utterance(sink, live(tags=("sales",)))
            await reader.first("emotide/group/sales/summary")
            await sink.stop(5)
            await asyncio.wait_for(task, 30)
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


async def test_a_stream_that_ends_during_an_outage_is_ended_on_the_broker(tmp_path: Path) -> None:
    """Its end had expired before the broker was back, which would have shown it as active for a
    day.
    """
    topic = "emotide/stream/call-1/state"
    with Broker(tmp_path, persistent=True, options=["autosave_interval 0"]) as broker:
        stream = live()
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


async def test_an_outage_costs_changes_of_utterances_before_segments_and_alerts(
    broker: Broker,
) -> None:
    """500 calls fill the outbox within 25 s of an outage, three quarters of it with changes of
    utterances. The oldest segments and alerts were dropped with them.
    """
    counts, calls = Counts(), 20
    async with TcpProxy(broker.port) as proxy, reading(broker.port) as reader:
        proxy.refusing = True
        sink = make(proxy.port, counts=counts, outbox=2 * calls)
        async with running(sink):
            streams = [live(f"call-{number}") for number in range(calls)]
            for stream in streams:
                publish_utterance(sink, stream)
            assert counts.dropped == 3 * calls, "new, update and end of each"
            proxy.refusing = False
            for stream in streams:
                channel = f"emotide/stream/{stream.stream_id}/customer"
                await reader.first(f"{channel}/segment")
                await reader.first(f"{channel}/alert")


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


async def test_a_connection_lost_during_the_stop_loses_no_message(broker: Broker) -> None:
    """A broker that restarted together with the server: what it had not answered was gone, and
    neither a number nor a record told it.
    """
    topic = "emotide/stream/call-1/customer/segment"
    async with reading(broker.port) as reader, TcpProxy(broker.port) as proxy:
        counts = Counts()
        async with running(sink := make(proxy.port, counts=counts)) as task:
            stream = live()
            sink.opened(stream)
            await until(lambda: counts.connected == [True] and sink.waiting == 0)
            proxy.up.stalled = True
            for number in range(100):
                sink.event(stream, encoded(stream, segment(utterance=number)))
            stop = asyncio.create_task(sink.stop(30))
            await until(lambda: len(sink._publisher._in_flight) > 0)
            proxy.reset()
            await until(lambda: counts.connected[:2] == [True, False])
            proxy.up.stalled = False
            await stop
            await asyncio.wait_for(task, 30)
        await until(lambda: len(reader.payloads(topic)) == 100)
        await reader.last_is(STATUS, b"offline")
        assert counts.dropped == 0


async def test_messages_that_a_stop_cannot_deliver_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = Counts()
    async with running(sink := make(free_port(), counts=counts)):
        stream = live()
        sink.opened(stream)
        for number in range(7):
            sink.event(stream, encoded(stream, segment(utterance=number)))
        await until(lambda: "MQTT broker unreachable" in caplog.text)
        await sink.stop(5)
    # Each segment is one message and ends one utterance.
    assert counts.dropped == 14
    [record] = [one for one in caplog.records if one.message == "MQTT messages undelivered"]
    assert vars(record)["messages"] == 14


async def test_a_message_in_flight_twice_does_not_end_the_sink(broker: Broker) -> None:
    """Home Assistant started twice in a row: the configuration of a room was sent again before its
    first answer, and the second answer ended the sink with a KeyError.
    """
    sink, message = make(broker.port), Message("emotide/x", b"1", 1, True, None, "x")
    async with reading(broker.port) as reader, running(sink) as task:
        await reader.last_is(STATUS, b"online")
        await until(lambda: sink.waiting == 0)
        broker.pause()
        for _ in range(2):
            sink._publisher.retain(message)
            await until(lambda: sink.waiting == 0)
        broker.resume()
        await until(lambda: reader.payloads("emotide/x") == [b"1", b"1"])
        sink._publisher.post(Message("emotide/y", b"2", 1, False, None, "x"))
        await reader.first("emotide/y")
        await until(lambda: sink.waiting == 0)
        assert not task.done()


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


LONGEST_S = 2.0
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
        assert time.monotonic() - began < client.CONNECT_S - 1, (
            "neither stop nor cancel waits for an answer"
        )
    assert counts.connected == []


async def test_the_outbox_is_bounded_in_bytes() -> None:
    """10 000 messages waited, whatever their size: a few large ones took as much memory as they
    liked while the broker was away."""
    counts = Counts()
    async with SilentBroker() as silent:
        sink = make(silent.port, counts=counts, outbox=10_000, outbox_mb=1)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for size in (10, 500, 20_000, 500, 10):
                for number in range(1_000):
                    payload = b"%d" % number + bytes(size)
                    sink._publisher.post(Message("emotide/x", payload, 1, False, None, "x"))
                    if not number % 100:
                        assert tracemalloc.get_traced_memory()[0] - before < 1.25 * 2**20
        finally:
            tracemalloc.stop()
    assert 1_500 < sink.waiting < 2_000, "the newest are kept"
    assert counts.dropped == 5_000 - sink.waiting


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
                assert sink.waiting <= 100 + client.IN_FLIGHT + 5, round_
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
        await until(lambda: counts.connected[-1:] == [True])
        await until(lambda: sink.waiting == 0)
        broker.pause()
        try:
            sink.event(stream, encoded(stream, segment(utterance=9)))
            await until(lambda: counts.connected[-1:] == [False])
        finally:
            broker.resume()
        # On a busy machine, a handshake may take longer than the 0.3 s, and another one follows.
        await until(lambda: counts.connected[-1:] == [True] and sink.waiting == 0)
