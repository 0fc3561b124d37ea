"""The MQTT sink and mosquitto with limits, an access list, and two servers of one name."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from stream.sinks.mqtt import outages, scan
from tests.support.broker import Broker, MqttProxy
from tests.support.mqtt import (
    STATUS,
    Counts,
    make,
    publish_utterance,
    reading,
    running,
    unchanged,
    until,
)
from tests.support.mqtt_samples import encoded, live, segment

AS_3_1_1 = b"\x20\x03\x00\x84\x00"
SEGMENT = "emotide/stream/call-1/customer/segment"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "RETRY_S", 0.05)
    monkeypatch.setattr(outages, "RETRY_MAX_S", 0.2)
    monkeypatch.setattr(scan, "SCAN_QUIET_S", 0.2)


def problems(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, str]]:
    return [
        vars(record)
        for record in caplog.records
        if text in record.getMessage() and record.levelno >= logging.WARNING
    ]


async def test_topics_that_the_access_list_forbids_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault B9: they counted as sent, and the log was silent."""
    access = ["topic readwrite emotide/node/#", "topic read #"]
    with Broker(tmp_path, options=["max_queued_messages 1000"], access=access) as broker:
        counts, stream = Counts(), live()
        sink = make(broker.port, counts=counts)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, stream)
            sink.event(stream, encoded(stream, segment(utterance=2)))
            await reader.last_is(STATUS, b"online")
            await until(lambda: counts.refused >= 4)
            assert counts.connected == [True]
            assert SEGMENT not in reader.received
    refused = problems(caplog, "MQTT messages refused")
    kinds = [record["topics"] for record in refused]
    assert len(kinds) == len({*kinds})
    assert {"emotide/stream/+/state", "emotide/stream/+/+/segment", "emotide/events"} <= {*kinds}
    assert all("access list" in record["remedy"] for record in refused)


async def test_a_broker_that_refuses_and_disconnects_gets_what_it_permits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """mosquitto 2.0.11 without a limit on queues closes the connection after each refusal: the
    server sent the same state again after every connect, for ever.
    """
    access = ["topic readwrite emotide/node/#", "topic read #"]
    with Broker(tmp_path, options=["max_queued_messages 0"], access=access) as broker:
        counts, stream = Counts(), live()
        sink = make(broker.port, counts=counts)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, stream)
            await reader.last_is(STATUS, b"online")
            await until(lambda: counts.connected[-1:] == [True])
            await unchanged(lambda: len(counts.connected))
            assert counts.connected[-1]
            assert counts.refused >= 4
            await until(lambda: sink.waiting == 0)
    assert problems(caplog, "MQTT messages refused")


@pytest.mark.parametrize("refusal", [None, AS_3_1_1], ids=["5", "3.1.1"])
async def test_a_maximum_packet_size_costs_what_is_larger_and_nothing_else(
    refusal: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault B10. Over MQTT 3.1.1 the broker states no size: it closes the connection."""
    with Broker(tmp_path, options=["max_packet_size 420"]) as broker:
        counts, stream = Counts(), live()
        async with MqttProxy(broker.port, refusal) as proxy:
            sink = make(proxy.port, counts=counts)
            described = sink._info()
            described["notice"] = "n" * 1000
            sink._info = lambda: described
            async with reading(broker.port) as reader, running(sink):
                sink.opened(stream)
                await reader.first("emotide/stream/call-1/state")
                if refusal:
                    await until(lambda: counts.refused >= 1)
                else:
                    await reader.first("emotide/node/n1/info")
                    assert reader.bodies("emotide/node/n1/info")[0]["notice"] == ""
                await until(lambda: sink.waiting == 0)
                ups = counts.connected.count(True)
                sink.event(stream, encoded(stream, segment(utterance=2)))
                await asyncio.sleep(0.5)
                assert ups <= (5 if refusal else 1)
                assert counts.connected.count(True) <= ups + 2, "a segment is too large as well"
                await reader.last_is(STATUS, b"online")


async def test_limits_that_mosquitto_states_are_kept(tmp_path: Path) -> None:
    options = ["max_qos 0", "retain_available false", "max_inflight_messages 1", "max_keepalive 10"]
    with Broker(tmp_path, options=options) as broker:
        counts, stream = Counts(), live()
        sink = make(broker.port, counts=counts)
        async with reading(broker.port) as reader, running(sink):
            publish_utterance(sink, stream)
            await reader.first(SEGMENT)
            assert not any(m.retain for messages in reader.received.values() for m in messages)
            assert counts.connected == [True]


@pytest.mark.parametrize("refusal", [None, AS_3_1_1], ids=["5", "3.1.1"])
async def test_two_servers_with_one_name_both_deliver(
    refusal: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They evicted each other every second, for ever; the log said "connection closed"."""
    with Broker(tmp_path) as broker:
        async with MqttProxy(broker.port, refusal) as proxy, reading(broker.port) as reader:
            counts = Counts(), Counts()
            first, second = (make(proxy.port, counts=one) for one in counts)
            async with running(first):
                await reader.last_is(STATUS, b"online")
                async with running(second):
                    await until(
                        lambda: (
                            problems(caplog, "this client identifier")
                            or problems(caplog, "used by another server")
                        )
                    )
                    await unchanged(lambda: [len(one.connected) for one in counts])
                    assert all(one.connected[-1] for one in counts)
                    for number, sink in enumerate((first, second)):
                        stream = live(f"call-{number}")
                        sink.opened(stream)
                        sink.event(stream, encoded(stream, segment()))
                        await reader.first(f"emotide/stream/call-{number}/customer/segment")
                    assert reader.payloads(STATUS)[-1] == b"online"
    found = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert 1 <= len(found) <= 2
    assert all("server.node" in vars(record)["remedy"] for record in found)
