"""Scores at a subscriber's rate: the newest of each period, and the last before the end."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import orjson
import pytest

from stream.delivery.hub import Hub
from stream.delivery.outbox import Outbox
from stream.delivery.subscription import Subscription
from stream.protocol.messages import Filter, Subscribe
from stream.telemetry.metrics import Metrics
from tests.support.scheduling import until
from tests.support.subscribing import (
    Clock,
    Subscriber,
    event,
    score,
    stream,
)
from tests.support.transport import FakeTransport


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
