"""Retained topics of a killed process: ended and deleted by the next one, and by no other node."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from stream.sinks.mqtt import scan
from stream.sinks.mqtt.leftovers import Leftovers
from stream.sinks.mqtt.names import StreamNames
from stream.sinks.mqtt.topics import Topics
from tests.support.broker import Broker, MqttProxy
from tests.support.mqtt import Counts, Reader, make, publish_utterance, reading, running, until
from tests.support.mqtt_samples import live

TOPICS = Topics("emotide", "n1", StreamNames(None))
AS_3_1_1 = b"\x20\x03\x00\x84\x00"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SCAN_QUIET_S", 0.3)


def states(reader: Reader, stream: str) -> list[str]:
    return [body["state"] for body in reader.bodies(f"emotide/stream/{stream}/state")]


async def leave_behind(
    port: int, broker: Broker, node: str, *streams: str, tenant: str = "default"
) -> None:
    """Publish streams of a node, which then ends without a goodbye."""
    base = "emotide" if tenant == "default" else f"emotide/t/{tenant}"
    async with reading(port) as reader, running(sink := make(port, node=node)):
        for name in streams:
            publish_utterance(sink, live(name, tags=("sales",), tenant=tenant))
        for name in streams:
            await reader.first(f"{base}/stream/{name}/customer/score")
        await until(lambda: sink.waiting == 0)


@pytest.mark.parametrize("refusal", [None, AS_3_1_1], ids=["5", "3.1.1"])
async def test_streams_of_a_killed_process_are_ended_and_deleted(
    refusal: bytes | None, tmp_path: Path
) -> None:
    """Fault B16: a server was killed during a call; for a day its dashboard showed the call as
    active, also after the server had come back.
    """
    with Broker(tmp_path) as broker:
        async with MqttProxy(broker.port, refusal) as proxy:
            await leave_behind(broker.port, broker, "n1", "dead", "again")
            await leave_behind(broker.port, broker, "n2", "neighbour")
            await leave_behind(broker.port, broker, "n1", "ours", tenant="acme")
            async with reading(broker.port) as reader:
                sink, again = make(proxy.port, clear_state_after_s=0.5), live("again")
                sink.opened(again)
                async with running(sink):
                    scores = "emotide/stream/dead/customer/score"
                    await reader.ends(scores)
                    await until(lambda: states(reader, "dead") == ["active", "ended"])
                    for topic in ("emotide/stream/dead/state", scores):
                        if refusal:
                            await reader.last_is(topic, b"")
                        else:
                            assert b"" not in reader.payloads(topic)
                    assert set(states(reader, "again")) == {"active"}
                    assert states(reader, "neighbour") == ["active"]
                    assert b"" not in reader.payloads("emotide/stream/neighbour/state")
                    assert b"" not in reader.payloads("emotide/stream/neighbour/customer/score")
                    await until(
                        lambda: (
                            [b["streams"] for b in reader.bodies("emotide/group/sales/summary")][
                                -1:
                            ]
                            == [0]
                        )
                    )
            await asyncio.sleep(1.0)
            async with reading(broker.port) as late:
                await late.first("emotide/stream/neighbour/state")
                assert "emotide/stream/dead/state" not in late.received


async def test_a_process_does_not_end_streams_of_a_live_one_with_the_same_name(
    tmp_path: Path,
) -> None:
    """Of two servers with one name, the one that is taken over publishes its streams again."""
    with Broker(tmp_path) as broker:
        first, second = make(broker.port), make(broker.port)
        async with reading(broker.port) as reader, running(first):
            publish_utterance(first, live())
            await reader.first("emotide/stream/call-1/state")
            async with running(second):
                await until(lambda: len(states(reader, "call-1")) >= 2)
                await until(lambda: second.waiting == first.waiting == 0)
                await until(lambda: second._scan.done)
                assert set(states(reader, "call-1")) == {"active"}


async def test_without_the_right_to_read_the_search_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = ["topic write emotide/#"]
    with Broker(tmp_path, access=access) as broker:
        counts = Counts()
        sink = make(broker.port, counts=counts)
        async with running(sink):
            await until(lambda: sink._scan.done)
            await until(lambda: sink.waiting == 0)
        assert counts.connected == [True, False]
        assert counts.sent >= 2


def state(**changes: object) -> bytes:
    body = {
        "v": 1,
        "t": 1,
        "stream": "call-1",
        "node": "n1",
        "state": "active",
        "started": "2026-11-28T00:00:00.000Z",
        "roles": ["customer", "agent"],
        "analysed": ["customer"],
        "tags": ["sales"],
    }
    return orjson.dumps({**body, **changes})


def test_the_state_of_a_dead_stream_becomes_ended_and_keeps_the_rest() -> None:
    found = Leftovers(TOPICS, 60)
    found.add("emotide/stream/call-1/state", state(), 2.0)
    [leftover] = found.take()
    assert orjson.loads(leftover.state.payload) == orjson.loads(state(state="ended", t=2000))
    assert [message.topic for message in leftover.ends] == [
        "emotide/stream/call-1/customer/score",
        "emotide/stream/call-1/customer/conversation",
        "emotide/stream/call-1/agent/conversation",
    ]
    assert leftover.tags == ("sales",)
    assert found.take() == []


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("emotide/stream/call-1/state", state(node="n2")),
        ("emotide/stream/call-1/state", state(v=2)),
        ("emotide/stream/call-1/state", state(stream="call-2")),
        ("emotide/stream/call-1/state", b""),
        ("emotide/stream/call-1/state", b"[1]"),
        ("emotide/stream/call-1/state", b"\xff{"),
        ("other/stream/call-1/state", state()),
        ("emotide/stream/a/b/state", state(stream="a")),
    ],
)
def test_what_another_node_or_program_published_is_left_alone(topic: str, payload: bytes) -> None:
    found = Leftovers(TOPICS, 60)
    found.add(topic, payload, time.time())
    assert found.take() == []


def test_the_topics_of_another_tenant_are_its_own() -> None:
    found = Leftovers(TOPICS, 60)
    found.add("emotide/t/acme/stream/call-1/state", state(tenant="acme"), 2.0)
    found.add("emotide/stream/call-1/state", state(tenant="acme"), 2.0)
    found.add("emotide/t/acme/stream/call-1/state", state(), 2.0)
    [leftover] = found.take()
    assert leftover.tenant == "acme"
    assert leftover.ends[0].topic == "emotide/t/acme/stream/call-1/customer/score"
    assert all(end.topic.startswith("emotide/t/acme/stream/call-1/") for end in leftover.ends)


def test_a_topic_that_is_published_meanwhile_is_alive() -> None:
    found = Leftovers(TOPICS, 60)
    found.add("emotide/stream/call-1/state", state(), 2.0)
    found.discard("emotide/stream/call-1/state")
    assert found.take() == []


def test_names_from_the_broker_never_become_topics_with_wildcards() -> None:
    found = Leftovers(TOPICS, 60)
    found.add("emotide/stream/call-1/state", state(analysed=["#", "a/b", 7, "agent"], tags="x"), 2)
    [leftover] = found.take()
    assert leftover.ends[0].topic == "emotide/stream/call-1/agent/score"
    assert not any(wild in end.topic for end in leftover.ends for wild in ("#", "a/b", "7"))
    assert leftover.tags == ()
