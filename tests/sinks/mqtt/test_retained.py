"""Messages to retain: sent once, deleted, expired, and sent again after a reconnect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.sinks.mqtt.message import deletion
from stream.sinks.mqtt.retained import Retained
from tests.support.mqtt_samples import (
    READABLE,
    STATS,
    live,
)


def test_a_retained_message_is_sent_once_and_again_after_a_reconnect() -> None:
    retained, one = Retained(), READABLE.status(True)
    retained.set(one, now=0)
    assert retained.next(one.topic, 0) == one
    assert retained.next(one.topic, 0) is None
    assert retained.reconnected() == [one.topic]
    assert retained.next(one.topic, 0) == one


def test_a_deletion_is_repeated_until_it_is_confirmed() -> None:
    retained, one = Retained(), READABLE.status(True)
    retained.set(one, 0)
    retained.next(one.topic, 0)
    retained.clear(one.topic)
    assert retained.next(one.topic, 0) == deletion(one.topic)
    assert retained.reconnected() == [one.topic]
    assert retained.next(one.topic, 0) == deletion(one.topic)
    retained.deleted(one.topic)
    assert retained.next(one.topic, 0) is None
    assert retained.reconnected() == []


def test_only_messages_with_an_expiry_expire() -> None:
    retained, state = Retained(), READABLE.status(True)
    short = replace(state, topic="emotide/short", expiry_s=2)
    retained.set(state, 0)
    retained.set(short, 0)
    assert retained.expiring() == [short.topic]
    for now, left_s in ((0.5, 2), (1.0, 1), (1.9, 1)):
        retained.set(short, 0)
        sent = retained.next(short.topic, now)
        assert sent is not None
        assert sent.expiry_s == left_s, "whole seconds, rounded up"
    retained.set(short, 0)
    assert retained.next(short.topic, 2.0) is None


def test_a_topic_that_is_left_to_another_server_is_not_sent_to() -> None:
    retained, one = Retained(), READABLE.status(True)
    retained.set(one, 0)
    retained.next(one.topic, 0)
    retained.forget(one.topic)
    assert one.topic not in retained
    assert retained.reconnected() == []
    assert retained.next(one.topic, 1) is None


def test_a_message_that_was_never_sent_is_not_deleted() -> None:
    retained, one = Retained(), READABLE.status(True)
    retained.set(one, 0)
    retained.clear(one.topic)
    assert retained.next(one.topic, 0) is None
    assert retained.reconnected() == []


def test_a_late_confirmation_does_not_forget_the_new_message() -> None:
    retained, one = Retained(), READABLE.status(True)
    retained.set(one, 0)
    retained.next(one.topic, 0)
    retained.clear(one.topic)
    retained.next(one.topic, 0)
    retained.set(one, 0)
    assert retained.next(one.topic, 0) == one
    retained.deleted(one.topic)
    assert retained.reconnected() == [one.topic]


@pytest.mark.parametrize("broker_expires", [True, False])
def test_expiry_counts_from_publication(broker_expires: bool) -> None:
    retained, stats = Retained(), READABLE.stats(STATS, 0)
    retained.set(stats, now=0)
    later = retained.next(stats.topic, now=20.5)
    assert later is not None
    assert later.expiry_s == 100
    assert retained.expire(119, broker_expires) == []
    assert retained.expire(120, broker_expires) == []
    assert (stats.topic in retained) == (not broker_expires), "nothing is deleted without JSON"
    assert retained.next(stats.topic, 120) is None


@pytest.mark.parametrize(("broker_expires", "deleted_by_sink"), [(True, False), (False, True)])
def test_the_end_of_a_stream_is_deleted_once(broker_expires: bool, deleted_by_sink: bool) -> None:
    retained, end = Retained(), READABLE.ended(live(), 0, 60)[0]
    retained.set(end, now=0)
    assert retained.next(end.topic, 1) == replace(end, expiry_s=59)
    assert retained.expire(60, broker_expires) == ([end.topic] if deleted_by_sink else [])
    assert (retained.next(end.topic, 60) is not None) == deleted_by_sink


def test_the_end_of_a_stream_is_sent_however_late() -> None:
    """The broker was away for longer than the end's expiry and showed the stream as active."""
    stream, retained = live(), Retained()
    retained.set(READABLE.state(stream, 0), now=0)
    retained.next(READABLE.state_topic(stream), 0)
    end = READABLE.ended(stream, 0, 60)[0]
    retained.set(end, now=100)
    assert retained.expire(500, True, connected=False) == []
    assert retained.reconnected() == [end.topic]
    assert retained.next(end.topic, 500) == end
    assert retained.expire(560, True) == []
    assert end.topic not in retained


def test_ends_of_streams_that_the_broker_never_saw_are_forgotten() -> None:
    """During a long outage they would accumulate."""
    retained, end = Retained(), READABLE.ended(live(), 0, 60)[0]
    retained.set(end, now=0)
    assert retained.expire(60, True, connected=False) == []
    assert end.topic not in retained
