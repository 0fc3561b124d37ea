"""Filters of a subscription: streams, events, roles, scores and labels; its replay."""

from __future__ import annotations

from typing import Any

import pytest

from stream.delivery.hub import Hub
from stream.tenants import Principal
from tests.support.subscribing import (
    ACME,
    OPS,
    Clock,
    Subscriber,
    event,
    score,
    stream,
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
