"""The outbox of a connection: order, bounds in messages and bytes, reports of what was dropped."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from stream.delivery import outbox as module
from stream.delivery.outbox import MAX_BYTES, Outbox
from stream.telemetry.metrics import Metrics
from tests.support.transport import FakeTransport


class Counted(Metrics):
    """Metrics that record what was sent and dropped."""

    def __init__(self) -> None:
        super().__init__("test")
        self.lost: list[int] = []
        self.out: list[str] = []

    def dropped(self, transport: str, events: int) -> None:
        if events:
            self.lost.append(events)

    def sent(self, transport: str, events: int = 1) -> None:
        self.out.append(transport)


def make(limit: int = 3) -> tuple[Outbox, FakeTransport, Counted]:
    transport, metrics = FakeTransport(), Counted()
    return Outbox(transport, limit, metrics), transport, metrics


def blocked(limit: int = 3) -> tuple[Outbox, FakeTransport, Counted]:
    box, transport, metrics = make(limit)
    transport.writable = False
    return box, transport, metrics


def read(box: Outbox, transport: FakeTransport) -> None:
    transport.writable = True
    box.flush()


def test_a_message_is_sent_at_once_while_the_peer_reads() -> None:
    box, transport, metrics = make()
    box.put("a")
    box.put("b")
    assert transport.sent == ["a", "b"]
    assert metrics.out == ["ws", "ws"]
    assert not box.queue


def test_messages_wait_in_order_while_the_peer_does_not_read() -> None:
    box, transport, _ = blocked()
    for message in ("a", "b", "c"):
        box.put(message)
    assert transport.sent == []
    read(box, transport)
    assert transport.sent == ["a", "b", "c"]


def test_a_message_does_not_overtake_those_that_wait() -> None:
    """The peer reads again, but what waits has not been flushed yet."""
    box, transport, _ = blocked()
    box.put("a")
    transport.writable = True
    box.put("b")
    box.flush()
    assert transport.sent == ["a", "b"]


def test_flush_stops_where_the_peer_stops_reading() -> None:
    box, transport, _ = blocked()
    for message in ("a", "b"):
        box.put(message)
    transport.writable = True

    def send_one(message: str | bytes) -> None:
        transport.sent.append(message)
        transport.writable = False

    transport.send = send_one  # type: ignore[method-assign]  # for this test only
    box.flush()
    assert transport.sent == ["a"]
    assert len(box.queue) == 1


def test_beyond_its_messages_the_oldest_is_dropped_counted_and_reported_once() -> None:
    box, transport, metrics = blocked(limit=2)
    for message in ("a", "b", "c", "d"):
        box.put(message)
    assert sum(metrics.lost) == 2
    read(box, transport)
    report, *rest = transport.sent
    assert {k: v for k, v in orjson.loads(report).items() if k in ("type", "dropped")} == {
        "type": "lagged",
        "dropped": 2,
    }
    assert rest == ["c", "d"]
    box.put("e")
    assert transport.sent[-1] == "e"
    assert len(transport.sent) == 4, "one report"


def test_beyond_its_bytes_the_oldest_is_dropped() -> None:
    box, _, metrics = blocked(limit=1000)
    piece = b"x" * (MAX_BYTES // 4)
    for _ in range(8):
        box.put(piece)
    assert len(box.queue) * len(piece) <= MAX_BYTES
    assert sum(metrics.lost) == 8 - len(box.queue)


def test_a_message_with_a_key_replaces_the_one_that_waits() -> None:
    box, transport, metrics = blocked()
    for number in range(10):
        box.put(str(number), key="score")
    read(box, transport)
    assert transport.sent == ["9"]
    assert metrics.lost == []


def test_messages_that_were_never_put_are_reported_too() -> None:
    box, transport, metrics = make()
    box.skip(5)
    assert metrics.lost == [5]
    box.put("a")
    assert orjson.loads(transport.sent[0])["dropped"] == 5
    assert transport.sent[1:] == ["a"]


def test_without_a_report_the_next_message_follows_alone() -> None:
    transport = FakeTransport()
    box = Outbox(transport, 3, Counted(), lambda dropped: None)
    box.skip(5)
    box.put("a")
    assert transport.sent == ["a"]


def test_a_reply_has_the_common_fields() -> None:
    box, transport, _ = make()
    box.send({"type": "subscriptions", "ids": ["s1"]})
    reply = orjson.loads(transport.sent[0])
    assert reply.keys() == {"type", "v", "ts", "ids"}
    assert reply["ids"] == ["s1"]


def test_the_time_without_reading_begins_with_the_first_message_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    box, transport, _ = blocked()
    assert box.blocked_s() == 0
    box.put("a")
    now[0] = 13.0
    box.put("b")
    assert box.blocked_s() == 3

    transport.writable = True
    original = transport.send

    def send_one(message: str | bytes) -> None:
        original(message)
        transport.writable = False

    transport.send = send_one  # type: ignore[method-assign]  # for this test only
    box.flush()
    assert box.blocked_s() == 0, "a peer that takes a message gets new time"
    now[0] = 14.0
    assert box.blocked_s() == 1
    transport.writable = True
    box.flush()
    now[0] = 20.0
    assert box.blocked_s() == 0


async def test_close_sends_what_waits_first() -> None:
    box, transport, _ = blocked()
    box.put("a")
    closing = asyncio.create_task(box.close(4000, "over"))
    await asyncio.sleep(0.01)
    assert transport.closes == []
    read(box, transport)
    await closing
    assert (transport.sent, transport.closes) == (["a"], [(4000, "over")])
    assert not transport.aborted


async def test_close_aborts_a_peer_that_does_not_read_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.02)
    box, transport, _ = blocked()
    box.put("a")
    await asyncio.wait_for(box.close(4000, "over"), 5)
    assert transport.aborted
    assert transport.closes == []
