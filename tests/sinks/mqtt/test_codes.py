"""The MQTT sink and a broker with limits, refusals and reasons, over MQTT 5 and 3.1.1."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from stream.sinks.mqtt import client, outages, scan
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.sink import MqttSink
from tests.support.mqtt import (
    STATUS,
    Counts,
    make,
    publish_utterance,
    running,
    unchanged,
    until,
)
from tests.support.mqtt_samples import encoded, live, segment
from tests.support.scripted_broker import ScriptedBroker

SEGMENT = "emotide/stream/call-1/customer/segment"
STATE = "emotide/stream/call-1/state"
INFO_TOPIC = "emotide/node/n1/info"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "RETRY_S", 0.02)
    monkeypatch.setattr(outages, "RETRY_MAX_S", 0.1)
    monkeypatch.setattr(scan, "SCAN_QUIET_S", 0.2)


@asynccontextmanager
async def scripted(*levels: int) -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as broker:
        broker.levels = levels or (5,)
        yield broker


def topics(broker: ScriptedBroker) -> list[str]:
    return [message.topic for message in broker.published]


async def delivered(sink: MqttSink, broker: ScriptedBroker, topic: str = STATUS) -> None:
    await until(lambda: topic in topics(broker), f"nothing on {topic}")
    await until(lambda: sink.waiting == 0, "messages remain")


def records(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [
        record
        for record in caplog.records
        if text in record.getMessage() and record.levelno >= logging.WARNING
    ]


async def test_a_refused_message_is_counted_logged_once_and_not_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fault B9: the broker refused every segment with 0x87, not authorised; the metrics said that
    all were sent, and the log said nothing.
    """
    counts = Counts()
    async with scripted() as broker:
        broker.puback = lambda message: 0x87 if message.topic.endswith("/segment") else 0
        sink, stream = make(broker.port, counts=counts, stats_interval_s=600), live()
        async with running(sink):
            sink.opened(stream)
            await delivered(sink, broker, STATE)
            # `waiting` does not count retained messages that are on their way.
            await until(lambda: counts.sent == len(broker.published))
            before = counts.sent
            for number in range(3):
                sink.event(stream, encoded(stream, segment(utterance=number)))
            await until(lambda: topics(broker).count(SEGMENT) == 3)
            await until(lambda: sink.waiting == 0)
            ends = topics(broker).count("emotide/events")
            await until(lambda: counts.refused == 3)
            assert counts.sent - before == ends == 3
            assert counts.connected == [True]
    [error] = records(caplog, "MQTT messages refused")
    assert vars(error)["topics"] == "emotide/stream/+/+/segment"
    assert "0x87" in vars(error)["reason"]
    assert "access list" in vars(error)["remedy"]


async def test_what_is_larger_than_the_maximum_packet_size_is_dropped_or_shortened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fault B10: `info` was larger than the broker's Maximum Packet Size; the broker disconnected,
    and the server sent it again at every connect, for ever.
    """
    counts = Counts()
    async with scripted() as broker:
        broker.properties["maximum_packet_size"] = 330
        sink, stream = make(broker.port, counts=counts), live()
        async with running(sink):
            publish_utterance(sink, stream)
            sink.event(stream, encoded(stream, segment(utterance=2)))
            await delivered(sink, broker, "emotide/node/n1/stats")
            await until(lambda: counts.refused >= 3)
            assert counts.connected == [True]
        assert max(message.size for message in broker.published) <= 330
        assert {INFO_TOPIC, SEGMENT}.isdisjoint(topics(broker))
        assert {STATUS, STATE} <= {*topics(broker)}
    kinds = [vars(record)["topics"] for record in records(caplog, "MQTT messages refused")]
    assert sorted(kinds) == sorted({*kinds})
    assert "emotide/stream/+/+/segment" in kinds
    assert all("maximum packet size" in vars(r)["remedy"] for r in records(caplog, "refused"))


async def test_the_description_of_the_node_is_shortened_to_fit() -> None:
    async with scripted() as broker:
        broker.properties["maximum_packet_size"] = 500
        sink = make(broker.port)
        whole = sink._info()
        whole["notice"] = "n" * 400
        sink._info = lambda: whole
        async with running(sink):
            await delivered(sink, broker, INFO_TOPIC)
        [message] = {m for m in broker.published if m.topic == INFO_TOPIC}
        body = orjson.loads(message.payload)
        assert (body["limits"], body["notice"]) == ({}, "")
        assert body["version"] == "0.1.0"


@pytest.mark.parametrize("maximum", [1, 3])
async def test_the_receive_maximum_bounds_unanswered_messages(maximum: int) -> None:
    async with scripted() as broker:
        broker.properties["receive_maximum"] = maximum
        broker.delay_s = 0.01
        sink, stream = make(broker.port), live()
        async with running(sink):
            sink.opened(stream)
            for number in range(20):
                sink.event(stream, encoded(stream, segment(utterance=number)))
            await until(lambda: topics(broker).count(SEGMENT) == 20)
            await until(lambda: sink.waiting == 0)
        assert broker.connections[0].most_unanswered == maximum


async def test_a_busy_event_loop_does_not_slow_messages_down() -> None:
    """mosquitto permits 20 unanswered messages. Each 20 took a dozen turns of the event loop: 100
    messages a second on an overloaded machine. 500 calls have 300, and the outbox overflowed.
    """
    number, turns = 400, 0
    async with scripted() as broker:
        broker.properties["receive_maximum"] = 20
        counts = Counts()
        async with running(sink := make(broker.port, counts=counts)):
            await delivered(sink, broker)
            before = counts.sent
            for serial in range(number):
                message = Message("emotide/x", b"%d" % serial, 1, False, None, "x")
                sink._publisher.post(message)
            while counts.sent < before + number:
                turns += 1
                await asyncio.sleep(0)
    assert turns < 10 * number / 20, "those of the broker are counted, too"


async def test_many_messages_wait_for_a_broker_that_is_far_away() -> None:
    """With 8 at a time, 500 streams beside a broker that answered after 20 ms filled the outbox."""
    async with scripted() as broker:
        broker.delay_s = 0.05
        sink, stream = make(broker.port), live()
        async with running(sink):
            sink.opened(stream)
            for number in range(100):
                sink.event(stream, encoded(stream, segment(utterance=number)))
            await until(lambda: topics(broker).count(SEGMENT) == 100)
            await until(lambda: sink.waiting == 0)
        assert broker.connections[0].most_unanswered == client.IN_FLIGHT >= 50


async def test_without_retained_messages_nothing_is_retained_or_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An empty message on a topic of JSON, meant as a deletion, would reach every dashboard."""
    async with scripted() as broker:
        broker.refusals = [0x9A]  # the will asks for retention
        broker.properties["retain_available"] = 0
        sink, stream = make(broker.port, clear_state_after_s=0.0), live()
        async with running(sink):
            publish_utterance(sink, stream)
            await delivered(sink, broker, STATE)
            sink.closed(stream)
            await asyncio.sleep(0.3)
            await sink.stop(2)
        first, second = broker.connections
        assert (first.will, first.will_retain) == (STATUS, True)
        assert (second.will, second.will_retain) == (STATUS, False)
        assert not any(message.retain for message in broker.published)
        assert all(message.payload for message in broker.published)
        assert not second.subscribed
    assert len(records(caplog, "does not retain")) == 1


async def test_the_maximum_qos_holds_for_messages_and_will() -> None:
    async with scripted() as broker:
        broker.refusals = [0x9B]
        broker.properties["maximum_qos"] = 0
        sink, stream = make(broker.port), live()
        async with running(sink):
            publish_utterance(sink, stream)
            await until(lambda: SEGMENT in topics(broker))
            await until(lambda: sink.waiting == 0)
        assert [one.will_qos for one in broker.connections] == [1, 0]
        assert {message.qos for message in broker.published} == {0}


async def test_the_keep_alive_is_the_brokers() -> None:
    """A broker that allows 2 s drops a client that is silent for 3."""
    async with scripted() as broker:
        broker.properties["server_keep_alive"] = 2
        async with running(make(broker.port, stats_interval_s=60)):
            await until(lambda: broker.connections and broker.connections[0].pings >= 1)


async def test_a_session_that_is_taken_over_is_not_fought_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two servers had one name: each connection ended the other's, every second, for ever, and the
    log said "connection closed".
    """
    async with scripted() as broker:
        one, two = make(broker.port), make(broker.port)
        stream = live()
        async with running(one):
            one.opened(stream)
            await delivered(one, broker, STATE)
            async with running(two):
                await until(lambda: len(broker.connections) == 3)
                await asyncio.sleep(0.5)
                again = broker.connections[2]
                assert len(broker.connections) == 3, "each server has its connection"
                assert again.identifier.startswith(f"{broker.connections[0].identifier}~")
                assert again.will is None
                await until(lambda: STATE in [m.topic for m in again.published])
                one.event(stream, encoded(stream, segment()))
                await until(lambda: SEGMENT in [m.topic for m in again.published])
                await one.stop(2)
                assert not any("/node/" in m.topic for m in again.published)
    [error] = records(caplog, "identifier is used by another server")
    assert "server.node" in vars(error)["remedy"]


async def test_a_contested_identifier_is_recognised_over_mqtt_3_1_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """MQTT 3.1.1 has no reason codes: the broker closes the connection, again and again."""
    async with scripted(4) as broker:
        one, two = make(broker.port), make(broker.port)
        async with running(one):
            await delivered(one, broker)
            async with running(two):
                await until(lambda: records(caplog, "may use this client identifier"))
                await unchanged(lambda: len(broker.connections))
                assert len(broker._open) == 2, "both are connected"
    assert len(records(caplog, "may use this client identifier")) <= 2
    # Each server warns once for the same reason, not once per connection.
    assert len(records(caplog, "MQTT connection lost")) <= 4


@pytest.mark.parametrize(("level", "code"), [(4, None), (5, None), (5, 0x95)])
async def test_a_message_that_breaks_connections_is_found_and_dropped(
    level: int, code: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Over MQTT 3.1.1 a broker closes the connection at a message that is too large or not
    authorised; it was sent again after every connect, for ever, and with it nothing else.
    """
    counts = Counts()
    async with scripted(level) as broker:
        broker.disconnect = code
        broker.breaks = lambda message: message.topic == INFO_TOPIC
        sink, stream = make(broker.port, counts=counts), live()
        async with running(sink):
            publish_utterance(sink, stream)
            await until(lambda: records(caplog, "MQTT messages dropped"))
            await delivered(sink, broker, SEGMENT)
            accepted = [one for one in broker.connections if one.level == level]
            sink.event(stream, encoded(stream, segment(utterance=5)))
            await until(lambda: topics(broker).count(SEGMENT) >= 2)
            await asyncio.sleep(0.3)
            assert broker.connections[-1] is accepted[-1]
        assert len(accepted) <= 6
    [error] = records(caplog, "MQTT messages dropped")
    assert vars(error)["topics"] == "emotide/node/+/info"
    assert counts.refused >= 1


@pytest.mark.parametrize("level", [4, 5])
async def test_a_broker_that_never_answers_is_left_with_growing_delays(
    level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    monkeypatch.setattr(outages, "RETRY_MAX_S", 30.0)
    monkeypatch.setattr(outages, "STABLE_S", 0.05)
    counts = Counts()
    async with scripted(level) as broker:
        broker.puback = lambda _: None
        sink, stream = make(broker.port, counts=counts, outbox=50), live()
        async with running(sink):
            sink.opened(stream)
            for number in range(500):
                sink.event(stream, encoded(stream, segment(utterance=number)))
            await asyncio.sleep(1.0)
            assert sink.waiting <= 50 + client.IN_FLIGHT + 5
        # Delays of 20, 40, 80, ... ms besides 100 ms each: 7 connections in a second.
        assert 2 <= len([c for c in broker.connections if c.level == level]) <= 9
        assert counts.sent <= 2 * len(broker.connections), "only QoS 0 counts as sent"
    reasons = {vars(record)["reason"] for record in records(caplog, "MQTT connection lost")}
    # On a busy machine the subscription of the scan may be what is not answered within 0.1 s.
    assert reasons - {"Operation timed out"} == {"no answer to a publication"}


async def test_a_broker_that_closes_instead_of_refusing_mqtt_5_is_tried_with_3_1_1() -> None:
    async with scripted(4) as broker:
        broker.refusals = [None]
        sink = make(broker.port)
        async with running(sink):
            await delivered(sink, broker)
        assert [one.level for one in broker.connections] == [5, 4]


@pytest.mark.parametrize("code", [0x88, 0x89, 0x97])
async def test_a_busy_broker_is_tried_again(code: int) -> None:
    async with scripted() as broker:
        broker.refusals = [code, code]
        async with running(sink := make(broker.port)):
            await delivered(sink, broker)
        assert len(broker.connections) == 3


async def test_a_wrong_password_over_mqtt_3_1_1_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted(4) as broker:
        broker.refusals = [0x01, 0x05, 0x01, 0x04, 0x01, 0x05]
        async with running(sink := make(broker.port)):
            await delivered(sink, broker)
    remedies = [vars(record)["reason"] for record in records(caplog, "MQTT connection refused")]
    assert remedies
    assert all("mqtt.password" in reason for reason in remedies)
    assert len(remedies) == 3, "0x05, 0x04 and 0x05 are three changes of the reason"


async def test_any_reason_of_a_disconnect_is_logged_with_a_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted() as broker:
        sink = make(broker.port)
        async with running(sink):
            await delivered(sink, broker)
            broker.end(broker.connections[0], 0x97)
            await until(lambda: len(broker.connections) == 2)
    [lost] = records(caplog, "MQTT connection lost")
    assert "0x97" in vars(lost)["reason"]
    assert "quota" in vars(lost)["reason"]


async def test_a_refused_search_for_leftovers_is_logged_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted() as broker:
        broker.suback = 0x87
        sink = make(broker.port)
        async with running(sink):
            await delivered(sink, broker)
            await until(lambda: records(caplog, "not cleared"))
            assert len(broker.connections) == 1
    assert "emotide/stream/+/state" in vars(records(caplog, "not cleared")[0])["reason"]


async def test_a_sink_that_is_cancelled_while_its_connection_ends_stops() -> None:
    """A server that was stopped at that moment never ended: the cancellation was lost."""
    async with scripted() as broker:
        sink = make(broker.port)
        task = asyncio.create_task(sink.run())
        await delivered(sink, broker)
        session = asyncio.all_tasks()
        [watch] = [one for one in session if one.get_name() == "mqtt-watch"]
        watch.add_done_callback(lambda _: task.cancel())
        broker.end(broker.connections[0], 0x8B)
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
        assert task.cancelled()
