"""Isolation of subscriptions and sinks: one that raises affects no other, and fills no log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.protocol.events import EncodedEvent
from stream.telemetry.metrics import Metrics
from tests.support.plugins import LENGTHS
from tests.support.sessions import Sessions
from tests.support.subscribing import (
    Clock,
    Recorder,
    Subscriber,
    event,
    stream,
)
from tests.support.utterances import talk


class FailingSink(Recorder):
    """A sink that records its calls and raises in those named in `failing`."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = failing

    def _fail(self, call: str) -> None:
        if call in self.failing:
            raise RuntimeError(f"no {call} today")

    def opened(self, stream: LiveStream) -> None:
        super().opened(stream)
        self._fail("opened")

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        super().event(stream, event)
        self._fail(event.type)

    def changed(self, stream: LiveStream) -> None:
        super().changed(stream)
        self._fail("changed")

    def closed(self, stream: LiveStream) -> None:
        super().closed(stream)
        self._fail("closed")


CALLS = ["opened", "alert", "changed", "closed"]


@pytest.mark.parametrize("failing", CALLS)
def test_a_failing_sink_affects_no_other_sink_and_no_subscription(failing: str) -> None:
    failures: list[str] = []
    broken, working, subscriber = FailingSink(failing), Recorder(), Subscriber(Clock())
    hub, live = Hub([broken, working], failures.append), stream()
    hub.subscribe(subscriber.subscription)
    hub.opened(live)
    hub.publish(live, event("alert"))
    hub.changed(live)
    hub.closed(live)
    for sink in (broken, working):
        assert [call for call, _ in sink.calls] == CALLS
    assert [body["type"] for body in subscriber.received()] == ["alert"]
    assert failures == ["FailingSink"]
    assert hub.streams == {}


@pytest.mark.parametrize("method", ["matches", "offer", "forget", "close"])
def test_a_failing_subscription_affects_no_sink_and_no_other_subscription(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    sink, clock = Recorder(), Clock()
    before, broken, after = (Subscriber(clock) for _ in range(3))
    hub, live, later = Hub([sink], failures.append), stream(), stream("call-2")

    def fail(*_: Any) -> None:
        raise RuntimeError(f"no {method} today")

    monkeypatch.setattr(broken.subscription, method, fail)
    hub.opened(live)
    subscribers = (before, broken, after)
    matched = [hub.subscribe(subscriber.subscription) for subscriber in subscribers]
    assert matched == [[live], [] if method == "matches" else [live], [live]]
    hub.opened(later)
    hub.publish(live, event("alert"))
    hub.publish(later, event("alert", stream_id="call-2"))
    hub.closed(later)
    for subscriber in subscribers:
        hub.unsubscribe(subscriber.subscription)
    hub.publish(live, event("warning"))
    hub.closed(live)
    for subscriber in (before, after):
        received = [body["stream_id"] for body in subscriber.received()]
        assert received == ["call-1", "call-2"]
    assert [call for call, _ in sink.calls].count("closed") == 2
    assert failures == ["subscription"] * (2 if method in ("matches", "offer") else 1)
    assert not hub._matching


def test_a_failure_is_logged_at_once_and_then_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink that raises on every event must not fill the log."""
    now = [1000.0]
    monkeypatch.setattr("stream.delivery.hub.time.monotonic", lambda: now[0])
    failures: list[str] = []
    hub, live = Hub([FailingSink("opened", "alert")], failures.append), stream()
    with caplog.at_level(logging.ERROR):
        hub.opened(live)
        for seq in range(600):
            now[0] += 0.2
            hub.publish(live, event("alert", seq))
    assert failures == ["FailingSink"] * 601
    assert [record.getMessage() for record in caplog.records] == ["sink failed"] * 3
    first, second, third = (vars(record) for record in caplog.records)
    assert (first["sink"], first["call"], first["failures"]) == ("FailingSink", "opened", 1)
    assert (second["sink"], second["call"], second["failures"]) == ("FailingSink", "event", 300)
    assert third["failures"] == 300
    assert "no opened today" in str(first["exc_info"][1])
    assert "no alert today" in str(second["exc_info"][1])


def test_each_failing_target_has_its_own_log_limit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(FailingSink):
        pass

    subscriber = Subscriber(Clock())
    monkeypatch.setattr(subscriber.subscription, "offer", lambda *_: 1 / 0)
    hub, live = Hub([FailingSink("alert"), Other("alert")]), stream()
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    with caplog.at_level(logging.ERROR):
        for seq in range(3):
            hub.publish(live, event("alert", seq))
    logged = [(record.getMessage(), vars(record).get("sink")) for record in caplog.records]
    assert logged == [
        ("subscription failed", None),
        ("sink failed", "FailingSink"),
        ("sink failed", "Other"),
    ]


async def test_a_session_continues_when_a_sink_raises() -> None:
    """A sink that raised on `speech.start` ended a customer's call with `internal_error`: the
    exception passed through `Hub.publish` and `Session.emit` into the producer's connection."""
    sink, working = FailingSink("speech.start", "opened", "session.closed", "closed"), Recorder()
    metrics = Metrics("test")
    sessions = Sessions(hub=Hub([sink, working], metrics.delivery_failed))
    await sessions.scheduler.start(LENGTHS)
    try:
        session, connection = await sessions.open()
        session.audio(talk(3.0))
        await sessions.registry.finish(session, "completed")
    finally:
        await sessions.scheduler.stop(1.0)
    sent = connection.events
    types = [body["type"] for body in sent]
    assert {"speech.start", "emotion.score", "emotion.segment"} <= set(types)
    assert (types[-1], sent[-1]["reason"]) == ("session.closed", "completed")
    published = [call for call, _ in working.calls]
    assert published == [call for call, _ in sink.calls]
    assert published[0] == "opened"
    assert published[-2:] == ["session.closed", "closed"]
    starts = types.count("speech.start")
    counted = f'emotide_delivery_errors_total{{target="FailingSink"}} {starts + 3}.0'
    assert counted in metrics.text().decode()
