"""Delivery by the hub: filters, throttling, isolation, and no state of ended streams."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import orjson
import pytest

from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.events import EncodedEvent, encode
from stream.protocol.messages import Filter, Subscribe
from stream.telemetry.metrics import Metrics
from stream.tenants import ANY, ANYONE, DEFAULT, Principal
from tests.support.plugins import LENGTHS
from tests.support.scheduling import until
from tests.support.sessions import Sessions
from tests.support.transport import FakeTransport
from tests.support.utterances import talk

ALL = frozenset({ANY})


class Clock:
    """The part of an event loop that a subscription needs; the test advances the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        timer = (when, callback)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if timer in clock.timers:
                    clock.timers.remove(timer)

        return Handle()

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until


class Subscriber:
    """A subscriber's outbox and subscription. Its peer reads only in `received`."""

    def __init__(self, clock: Clock, principal: Principal = ANYONE, **fields: Any) -> None:
        self.transport = FakeTransport()
        self.transport.writable = False
        self.outbox = Outbox(self.transport, 100, Metrics("test"), lambda dropped: None)
        request = Subscribe.model_validate({"type": "subscribe", **fields})
        loop = cast(asyncio.AbstractEventLoop, clock)
        self.subscription = Subscription(request, self.outbox, loop, principal)

    def received(self) -> list[dict[str, Any]]:
        self.transport.writable = True
        self.outbox.flush()
        self.transport.writable = False
        sent = [orjson.loads(message) for message in self.transport.sent]
        self.transport.sent.clear()
        return sent


class Recorder:
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def opened(self, stream: LiveStream) -> None:
        self.calls.append(("opened", stream.session_id))

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        self.calls.append((event.type, stream.session_id))

    def changed(self, stream: LiveStream) -> None:
        self.calls.append(("changed", stream.session_id))

    def closed(self, stream: LiveStream) -> None:
        self.calls.append(("closed", stream.session_id))

    async def run(self) -> None: ...

    async def stop(self, timeout_s: float) -> None: ...


def stream(
    stream_id: str = "call-1",
    session: str = "",
    tags: tuple[str, ...] = (),
    tenant: str = DEFAULT,
) -> LiveStream:
    session = session or "s-" + stream_id
    roles = ("customer", "agent")
    return LiveStream(stream_id, session, roles, (0, 1), tags, 0.0, tenant=tenant)


def event(kind: str, seq: int = 0, stream_id: str = "call-1", **fields: Any) -> EncodedEvent:
    return encode({"type": kind, **fields}, seq, "s", stream_id, 0.0)


def score(
    seq: int = 0, angry: float = 0.5, channel: int = 0, stream_id: str = "call-1"
) -> EncodedEvent:
    shares = {"angry": angry, "sad": 1 - angry}
    return event(
        "emotion.score",
        seq,
        stream_id,
        channel=channel,
        role=("customer", "agent")[channel],
        scores=shares,
        rolling={"10s": shares},
    )


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        ({}, True),
        ({"streams": ["call-*"]}, True),
        ({"streams": ["call-?"]}, True),
        ({"streams": ["call-1"]}, True),
        ({"streams": ["other", "*-1"]}, True),
        ({"streams": ["call"]}, False),
        ({"streams": ["CALL-1"]}, False),
        ({"streams": ["call-[2-9]"]}, False),
        ({"streams": ["call-1x*"]}, False),
        ({"tags": ["vip"]}, True),
        ({"tags": ["gold", "vip"]}, True),
        ({"tags": ["gold"]}, False),
        ({"streams": ["other*"], "tags": ["vip"]}, False),
    ],
)
def test_streams_are_selected_by_glob_and_tag(selection: dict[str, Any], matches: bool) -> None:
    hub, subscriber = Hub(), Subscriber(Clock(), filter=selection)
    early, late = stream(tags=("vip", "de")), stream(session="later", tags=("vip",))
    hub.opened(early)
    assert hub.subscribe(subscriber.subscription) == ([early] if matches else [])
    hub.opened(late)
    for live in (early, late):
        hub.publish(live, event("warning"))
    assert len(subscriber.received()) == (2 if matches else 0)


@pytest.mark.parametrize(
    ("selection", "kinds"),
    [
        ({}, ["speech.start", "emotion.score", "alert", "session.closed"]),
        ({"events": ["emotion.*"]}, ["emotion.score"]),
        ({"events": ["alert", "speech.*"]}, ["speech.start", "alert"]),
        ({"events": ["*.score"]}, ["emotion.score"]),
        ({"events": ["nothing"]}, []),
        # roles are compared only if the event has one
        ({"roles": ["customer"]}, ["speech.start", "emotion.score", "session.closed"]),
        ({"roles": ["agent"]}, ["alert", "session.closed"]),
        ({"roles": ["agent"], "events": ["emotion.*"]}, []),
        # minimum scores are compared only if the event has scores
        (
            {"min_score": {"angry": 0.5}},
            ["speech.start", "emotion.score", "alert", "session.closed"],
        ),
        ({"min_score": {"angry": 0.51}}, ["speech.start", "alert", "session.closed"]),
        ({"min_score": {"angry": 0.9, "sad": 0.4}, "events": ["emotion.*"]}, ["emotion.score"]),
        ({"min_score": {"happy": 0.0}, "events": ["emotion.*"]}, ["emotion.score"]),
        ({"min_score": {"happy": 0.1}, "events": ["emotion.*"]}, []),
    ],
)
def test_events_are_selected_by_glob_role_and_minimum_score(
    selection: dict[str, object], kinds: list[str]
) -> None:
    hub, subscriber, live = Hub(), Subscriber(Clock(), filter=selection), stream()
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    for published in (
        event("speech.start", channel=0, role="customer"),
        score(),
        event("alert", channel=1, role="agent"),
        event("session.closed"),
    ):
        hub.publish(live, published)
    assert [body["type"] for body in subscriber.received()] == kinds


def test_every_event_names_its_subscription() -> None:
    hub, live, clock = Hub(), stream(), Clock()
    subscribers = [
        Subscriber(clock, id='a"b'),
        Subscriber(clock, id="c", filter={"labels": ["sad"]}),
    ]
    hub.opened(live)
    for subscriber in subscribers:
        hub.subscribe(subscriber.subscription)
    hub.publish(live, score(3))
    (first,), (second,) = (subscriber.received() for subscriber in subscribers)
    assert (first["sub"], second["sub"]) == ('a"b', "c")
    assert first["scores"] == {"angry": 0.5, "sad": 0.5}
    assert second["scores"] == {"sad": 0.5}
    assert second["rolling"] == {"10s": {"sad": 0.5}}
    assert second["seq"] == first["seq"] == 3


def test_scores_conflate_per_stream_and_channel_and_nothing_else_does() -> None:
    hub, subscriber = Hub(), Subscriber(Clock())
    one, two = stream("call-1"), stream("call-2")
    hub.opened(one)
    hub.opened(two)
    hub.subscribe(subscriber.subscription)
    hub.publish(one, score(1))
    hub.publish(one, event("alert", 2))
    hub.publish(two, score(3, stream_id="call-2"))
    hub.publish(one, score(4, channel=1))
    hub.publish(one, score(5))
    hub.publish(one, event("alert", 6))
    assert [body["seq"] for body in subscriber.received()] == [5, 2, 3, 4, 6]


def test_scores_arrive_at_the_requested_rate_and_are_the_newest_of_each_interval() -> None:
    hub, clock, live = Hub(), Clock(), stream()
    subscriber = Subscriber(clock, rate_hz=2)
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    delivered = []
    for seq in range(40):
        hub.publish(live, score(seq))
        delivered += [(clock.now - 100, body["seq"]) for body in subscriber.received()]
        clock.advance(0.1)
        delivered += [(clock.now - 100, body["seq"]) for body in subscriber.received()]
    clock.advance(1)
    delivered += [(4.0, body["seq"]) for body in subscriber.received()]
    assert len(delivered) == 9
    assert delivered[-1][1] == 39  # the last score is delivered
    assert all(later[1] - before[1] == 5 for before, later in pairwise(delivered[1:-1]))


def test_other_events_are_not_throttled() -> None:
    hub, live = Hub(), stream()
    subscriber = Subscriber(Clock(), rate_hz=0.1)
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    for seq in range(5):
        hub.publish(live, event("emotion.segment", seq, channel=0, role="customer"))
    assert [body["seq"] for body in subscriber.received()] == list(range(5))


def test_a_held_score_is_released_when_its_own_period_ends() -> None:
    """One timer serves all streams. When a score that is due earlier is held, the timer must be
    moved forward from the score that was held first."""
    hub, clock = Hub(), Clock()
    subscriber = Subscriber(clock, rate_hz=0.1)
    early, late = stream("early"), stream("late")
    hub.opened(early)
    hub.opened(late)
    hub.subscribe(subscriber.subscription)
    hub.publish(early, score(1, stream_id="early"))
    clock.advance(8)
    hub.publish(late, score(2, stream_id="late"))
    hub.publish(late, score(3, stream_id="late"))  # held until 18 s
    hub.publish(early, score(4, stream_id="early"))  # held until 10 s
    subscriber.received()
    clock.advance(2.5)
    assert [body["seq"] for body in subscriber.received()] == [4]
    clock.advance(8)
    assert [body["seq"] for body in subscriber.received()] == [3]


def test_an_ended_subscription_receives_nothing_and_leaves_no_timer() -> None:
    hub, clock, live = Hub(), Clock(), stream()
    subscriber = Subscriber(clock, rate_hz=1)
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    hub.publish(live, score(1))
    hub.publish(live, score(2))
    assert len(clock.timers) == 1
    hub.unsubscribe(subscriber.subscription)
    assert clock.timers == []
    hub.publish(live, event("alert"))
    hub.opened(stream("call-2"))
    assert len(subscriber.received()) == 1
    hub.unsubscribe(subscriber.subscription)


def test_no_state_of_an_ended_stream_is_kept() -> None:
    """A monitor stays subscribed for months while calls begin and end."""
    hub, clock = Hub(), Clock()
    subscriber = Subscriber(clock, rate_hz=1)
    hub.subscribe(subscriber.subscription)
    for n in range(50):
        live = stream(f"call-{n}")
        hub.opened(live)
        for seq in range(3):
            hub.publish(live, score(seq, channel=seq % 2, stream_id=live.stream_id))
        hub.closed(live)
        subscriber.received()
    assert hub.streams == {}
    assert not hub._matching
    throttle = subscriber.subscription._throttle
    assert not throttle._next
    assert not throttle._held
    reference = weakref.ref(live)
    del live
    gc.collect()
    assert reference() is None
    clock.advance(5)
    assert clock.timers == []
    assert subscriber.received() == []


def test_a_taken_over_stream_id_stays_with_the_newer_stream() -> None:
    hub, subscriber = Hub(), Subscriber(Clock())
    hub.subscribe(subscriber.subscription)
    old, new = stream(session="old"), stream(session="new")
    hub.opened(old)
    hub.opened(new)
    assert hub.streams == {("default", "call-1"): new}
    hub.publish(old, event("session.closed", 1))
    hub.closed(old)
    assert hub.streams == {("default", "call-1"): new}
    hub.publish(new, event("alert", 2))
    hub.publish(old, event("alert", 3))
    assert [body["seq"] for body in subscriber.received()] == [1, 2]
    hub.closed(new)
    assert hub.streams == {}


def test_a_score_that_is_held_when_its_stream_ends_is_sent_before_the_end() -> None:
    """A dashboard at one score a second never got the last mood of a call."""
    hub, clock, live = Hub(), Clock(), stream()
    subscriber = Subscriber(clock, rate_hz=1)
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    for seq in range(3):
        hub.publish(live, score(seq))
    for seq in (3, 4):
        hub.publish(live, score(seq, channel=1))
    hub.publish(live, event("session.closed", 5))
    hub.closed(live)
    assert [body["seq"] for body in subscriber.received()] == [2, 4, 5]
    clock.advance(5)
    assert subscriber.received() == []


def test_a_held_score_is_sent_although_the_filter_omits_the_end() -> None:
    hub, live = Hub(), stream()
    subscriber = Subscriber(Clock(), rate_hz=1, filter={"events": ["emotion.*"]})
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    for seq in range(3):
        hub.publish(live, score(seq))
    hub.closed(live)
    assert [body["seq"] for body in subscriber.received()] == [2]


def test_the_end_of_a_stream_leaves_the_throttle_of_its_successor_alone() -> None:
    """A stream that took over an id lost its held score when the old stream ended."""
    hub, clock = Hub(), Clock()
    subscriber = Subscriber(clock, rate_hz=1)
    hub.subscribe(subscriber.subscription)
    old, new = stream(session="old"), stream(session="new")
    hub.opened(old)
    hub.publish(old, score(0))
    hub.opened(new)
    for seq in (1, 2):
        hub.publish(new, score(seq))
    hub.closed(old)
    hub.publish(new, score(3))
    assert [body["seq"] for body in subscriber.received()] == [0, 1]
    clock.advance(1)
    assert [body["seq"] for body in subscriber.received()] == [3]


# -- tenants -----------------------------------------------------------------------------------

ACME, GLOBEX, OPS = Principal("a", "acme"), Principal("g", "globex"), Principal("o", "x", ALL)


def test_a_subscription_matches_streams_of_its_tenants_only() -> None:
    hub, clock = Hub(), Clock()
    lives = [stream("call-1", tenant, tenant=tenant) for tenant in ("acme", "globex")]
    listeners = {p.key: Subscriber(clock, p) for p in (ACME, GLOBEX, OPS)}
    for listener in listeners.values():
        hub.subscribe(listener.subscription)
    for live in lives:
        hub.opened(live)
        hub.publish(live, event("warning"))
    received = {key: listener.received() for key, listener in listeners.items()}
    assert [len(received[key]) for key in ("a", "g", "o")] == [1, 1, 2]
    assert "tenant" not in received["a"][0]
    assert [body["tenant"] for body in received["o"]] == ["acme", "globex"]


def test_streams_of_one_id_in_two_tenants_do_not_conflate() -> None:
    hub, subscriber = Hub(), Subscriber(Clock(), OPS)
    hub.subscribe(subscriber.subscription)
    for seq, tenant in enumerate(("acme", "globex")):
        live = stream("call-1", tenant, tenant=tenant)
        hub.opened(live)
        hub.publish(live, score(seq))
    assert [body["seq"] for body in subscriber.received()] == [0, 1]


@pytest.mark.parametrize(
    ("principal", "tenant", "found"),
    [
        (ACME, "", "acme"),
        (ACME, "acme", "acme"),
        (ACME, "globex", None),
        (GLOBEX, "", "globex"),
        (Principal("b", "globex", frozenset({"acme"})), "", "globex"),
        (Principal("b", "globex", frozenset({"acme"})), "acme", "acme"),
        (OPS, "", "acme"),
        (OPS, "globex", "globex"),
        (OPS, "nobody", None),
        (Principal("p"), "", None),
    ],
)
def test_an_id_names_a_stream_that_the_principal_sees(
    principal: Principal, tenant: str, found: str | None
) -> None:
    hub = Hub()
    for name in ("globex", "acme"):
        hub.opened(stream("call-1", name, tenant=name))
    live = hub.find(principal, "call-1", tenant)
    assert (live.tenant if live else None) == found
    assert hub.find(principal, "call-2", tenant) is None


@pytest.mark.parametrize(
    ("principal", "since", "last"),
    [
        (ACME, {"call-1": 4}, 4),
        (ACME, {"acme/call-1": 4}, 4),
        (ACME, {"call-2": 4}, None),
        (OPS, {"call-1": 4}, None),
        (OPS, {"acme/call-1": 4, "globex/call-1": 5}, 4),
    ],
)
def test_since_names_streams_of_other_tenants_with_their_tenant(
    principal: Principal, since: dict[str, int], last: int | None
) -> None:
    """The numbers of two streams that have one id in two tenants have nothing in common."""
    live = stream("call-1", tenant="acme")
    subscription = Subscriber(Clock(), principal).subscription
    assert subscription.replay_from(live, since) == last


def test_the_replay_for_subscribers_has_no_event_that_is_for_the_producer_only() -> None:
    """Errors of a producer, with what they quote, reached subscribers who asked with `since`."""
    live = stream()
    live.remember(event("warning", 1))
    live.remember(event("error", 2), shared=False)
    live.remember(event("audio.ack", 3), shared=False)
    assert [e.seq for e in live.replay.shared_since(-1)] == [1]
    assert [e.seq for e in live.replay.shared_since(1)] == []
    assert [e.seq for e in live.replay.since(-1)] == [1, 2, 3]


def test_sinks_receive_every_stream_without_any_subscription() -> None:
    sink = Recorder()
    hub, live = Hub([sink]), stream()
    hub.opened(live)
    hub.publish(live, event("alert"))
    hub.changed(live)
    hub.closed(live)
    assert [call for call, _ in sink.calls] == ["opened", "alert", "changed", "closed"]


def test_a_snapshot_shows_state_and_newest_scores() -> None:
    live = stream(tags=("de",))
    live.last[1], live.last[0] = score(2, channel=1), score(1)
    live.speaking = frozenset({1})
    shown = live.snapshot()
    assert (shown["stream_id"], shown["state"], shown["tags"]) == ("call-1", "active", ["de"])
    assert shown["roles"] == ["customer", "agent"]
    assert shown["speaking"] == [1]
    assert [body["seq"] for body in shown["last"]] == [1, 2]
    orjson.dumps(shown)


def test_a_slow_subscriber_loses_its_oldest_events_and_others_lose_none() -> None:
    hub, live, clock = Hub(), stream(), Clock()
    slow, fast = Subscriber(clock), Subscriber(clock)
    hub.opened(live)
    hub.subscribe(slow.subscription)
    hub.subscribe(fast.subscription)
    received = []
    for seq in range(300):
        hub.publish(live, event("alert", seq))
        received += fast.received()
    assert [body["seq"] for body in received] == list(range(300))
    assert slow.outbox.queue.dropped == 200
    assert [body["seq"] for body in slow.received()] == list(range(200, 300))


async def test_a_subscription_works_on_a_real_event_loop() -> None:
    transport = FakeTransport()
    outbox = Outbox(transport, 10, Metrics("test"))
    request = Subscribe(type="subscribe", filter=Filter(), rate_hz=20)
    hub, live = Hub(), stream()
    hub.opened(live)
    hub.subscribe(Subscription(request, outbox, asyncio.get_running_loop()))

    for seq in range(4):
        hub.publish(live, score(seq))
    await until(lambda: len(transport.sent) == 2)
    hub.closed(live)

    assert [orjson.loads(message)["seq"] for message in transport.sent] == [0, 3]


# -- isolation ---------------------------------------------------------------------------------


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
    monkeypatch.setattr(subscriber.subscription, "offer", lambda _: 1 / 0)
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


def test_a_replayed_event_is_received_if_it_passes_the_filter() -> None:
    """A replay that put nothing into the outbox passed all tests."""
    subscriber = Subscriber(Clock(), filter={"events": ["speech.*"]})
    live = stream()
    subscriber.subscription.replay(live, event("speech.start", 4, channel=0))
    subscriber.subscription.replay(live, event("warning", 5))
    (received,) = subscriber.received()
    assert (received["type"], received["seq"], received["sub"]) == (
        "speech.start",
        4,
        subscriber.subscription.id,
    )


def test_replayed_scores_do_not_conflate() -> None:
    subscriber = Subscriber(Clock(), rate_hz=1)
    for seq in range(3):
        subscriber.subscription.replay(stream(), score(seq))
    assert [e["seq"] for e in subscriber.received()] == [0, 1, 2]


def test_with_labels_events_without_scores_are_received_as_they_are() -> None:
    hub, subscriber, live = Hub(), Subscriber(Clock(), filter={"labels": ["angry"]}), stream()
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    hub.publish(live, event("speech.start", channel=0))
    hub.publish(live, score())
    start, scored = subscriber.received()
    assert start["type"] == "speech.start"
    assert scored["scores"].keys() == {"angry"}


def test_an_earlier_release_replaces_the_timer_of_a_later_one() -> None:
    """Two timers would release twice; the test of a subscription's end saw one left behind."""
    clock = Clock()
    hub, subscriber, live = Hub(), Subscriber(clock, rate_hz=1), stream()
    hub.opened(live)
    hub.subscribe(subscriber.subscription)
    hub.publish(live, score(0, channel=0))  # due again at 101.0
    clock.advance(0.4)
    hub.publish(live, score(1, channel=1))  # due again at 101.4
    assert [e["seq"] for e in subscriber.received()] == [0, 1]
    hub.publish(live, score(2, channel=1))  # held until 101.4
    hub.publish(live, score(3, channel=0))  # held until 101.0
    assert [when for when, _ in clock.timers] == [pytest.approx(101.0)]
    clock.advance(0.61)
    assert [e["seq"] for e in subscriber.received()] == [3]
    clock.advance(0.4)
    assert [e["seq"] for e in subscriber.received()] == [2]
    assert not clock.timers
