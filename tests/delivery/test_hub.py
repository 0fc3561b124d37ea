"""Delivery by the hub: which streams each principal gets, and no state of ended ones."""

from __future__ import annotations

import gc
import weakref

import pytest

from stream.delivery.hub import Hub
from stream.tenants import Principal
from tests.support.subscribing import (
    ACME,
    GLOBEX,
    OPS,
    Clock,
    Recorder,
    Subscriber,
    event,
    score,
    stream,
)


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


def test_sinks_receive_every_stream_without_any_subscription() -> None:
    sink = Recorder()
    hub, live = Hub([sink]), stream()
    hub.opened(live)
    hub.publish(live, event("alert"))
    hub.changed(live)
    hub.closed(live)
    assert [call for call, _ in sink.calls] == ["opened", "alert", "changed", "closed"]


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
