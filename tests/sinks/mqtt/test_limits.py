"""Messages within a broker's limits, and conclusions from how connections end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.sinks.mqtt.limits import BrokerLimits, MessageRefused, packet_bytes
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import topic_class
from stream.sinks.mqtt.outages import (
    BLAMED_S,
    PROMPT_S,
    RETRY_MAX_S,
    RETRY_S,
    STABLE_S,
    Outages,
)

MESSAGE = Message("a/b", b"x" * 100, 1, True, None, "s", short=b"y" * 10)


@pytest.mark.parametrize(
    ("payload", "qos", "properties", "size"),
    [(0, 0, 0, 7), (0, 1, 1, 10), (122, 0, 0, 129), (123, 0, 0, 131), (16_379, 0, 0, 16_388)],
)
def test_the_size_of_a_packet_counts_every_byte(
    payload: int, qos: int, properties: int, size: int
) -> None:
    message = replace(MESSAGE, payload=b"x" * payload, qos=1 if qos else 0)
    assert packet_bytes(message, properties) == size


def test_a_message_is_shortened_only_if_it_does_not_fit() -> None:
    size = packet_bytes(MESSAGE, 5)
    assert BrokerLimits(packet_bytes=size).adapted(MESSAGE, 5) == MESSAGE
    assert BrokerLimits(packet_bytes=size - 1).adapted(MESSAGE, 5).payload == MESSAGE.short
    with pytest.raises(MessageRefused, match=r"24 bytes exceeds the broker's maximum of 23"):
        BrokerLimits(packet_bytes=23).adapted(MESSAGE, 5)


def test_qos_and_retention_are_lowered_to_what_the_broker_has() -> None:
    assert BrokerLimits().adapted(MESSAGE, 0) == MESSAGE
    lowered = BrokerLimits(qos=0, retain=False).adapted(MESSAGE, 0)
    assert (lowered.qos, lowered.retain) == (0, False)
    assert BrokerLimits(qos=1, retain=False).adapted(MESSAGE, 0).qos == 1
    lowered = BrokerLimits(qos=0).adapted(MESSAGE, 0)
    assert (lowered.qos, lowered.retain) == (0, True), "one limit does not bring the other"
    lowered = BrokerLimits(retain=False).adapted(MESSAGE, 0)
    assert (lowered.qos, lowered.retain) == (1, False)


def test_a_broker_that_states_no_limits_has_those_of_the_specification() -> None:
    """MQTT 5.0, 3.2.2.3."""
    assert BrokerLimits() == BrokerLimits(None, 65_535, 2, True, True)


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("e/node/n1/info", "e/node/+/info"),
        ("e/stream/x/customer/score", "e/stream/+/+/score"),
        ("e/stream/x/state", "e/stream/+/state"),
        ("e/events", "e/events"),
        ("e/t/acme/events", "e/t/+/events"),
        ("e/t/acme/stream/x/agent/score", "e/t/+/stream/+/+/score"),
    ],
)
def test_the_class_of_a_topic_names_no_stream(topic: str, kind: str) -> None:
    assert topic_class(topic, "e") == kind


def test_delays_double_and_start_again_after_a_useful_connection() -> None:
    outages, delays = Outages(), []
    for _ in range(10):
        outages.ended(None, closed=False, explained=False, answered=False)
        delays.append(outages.delay_s)
        outages.waited()
    assert delays[:4] == [RETRY_S * 2**n for n in range(4)]
    assert delays[-1] == RETRY_MAX_S
    # A broker that accepts and never answers is no reason to hurry.
    outages.ended(STABLE_S + 1, closed=False, explained=False, answered=False)
    assert outages.delay_s == RETRY_MAX_S
    outages.ended(STABLE_S + 1, closed=True, explained=False, answered=True)
    assert outages.delay_s == RETRY_S


def test_an_identifier_is_contested_after_four_ends_without_a_reason() -> None:
    outages = Outages()
    for number in range(4):
        assert not outages.contested
        assert outages.careful == (number >= 2)
        outages.ended(0.1, closed=True, explained=False, answered=True)
    assert outages.contested
    outages.settled()
    assert not outages.contested
    assert not outages.careful


def test_lost_networks_and_stated_reasons_do_not_mean_another_client() -> None:
    outages = Outages()
    for _ in range(9):
        outages.ended(0.1, closed=False, explained=False, answered=True)
    assert not outages.careful
    for _ in range(9):
        outages.ended(0.1, closed=True, explained=True, answered=True)
    assert outages.careful
    assert not outages.contested


def test_a_large_message_is_dropped_for_its_size_and_a_small_one_for_its_class() -> None:
    outages = Outages()
    assert not outages.blame("info", 5000), "others were in flight, too"

    for _ in range(2):
        outages.ended(0.1, closed=True, explained=False, answered=False)

    def blamed(kind: str, size: int) -> None:
        assert not outages.blame(kind, size)
        assert outages.blame(kind, size)

    blamed("info", 5000)
    assert outages.drops("info", 5000)
    assert outages.drops("info", 6000)
    assert not outages.drops("info", 4999)
    assert not outages.drops("state", 5000)
    blamed("state", 200)
    assert outages.drops("state", 1)
    blamed("info", 4000)
    assert outages.drops("info", 1), "its size was not the reason"


def test_what_was_dropped_is_tried_again_after_a_while_that_doubles() -> None:
    """A network that failed every few seconds looked like a broker that closes the connection at
    scores: none was published any more until the server was started again."""
    now = [1000.0]
    outages = Outages(lambda: now[0])
    for period in (BLAMED_S, 2 * BLAMED_S, 4 * BLAMED_S):
        assert outages.blame("score", 300, refused=True)
        now[0] += period - 1
        assert outages.drops("score", 300)
        now[0] += 1
        assert not outages.drops("score", 300)


def test_a_message_that_waited_for_its_answer_did_not_break_the_connection() -> None:
    outages = Outages()
    for _ in range(2):
        outages.ended(0.1, closed=True, explained=False, answered=False)
    for _ in range(5):
        assert not outages.blame("score", 300, waited_s=PROMPT_S + 0.1)
    assert not outages.drops("score", 300)


def test_a_refused_message_is_to_blame_at_once() -> None:
    outages = Outages()
    assert outages.blame("state", 200, refused=True)
    assert outages.drops("state", 100)
    assert outages.careful, "there may be others"


def test_a_bad_line_is_not_blamed_on_the_messages_that_it_cut_off() -> None:
    """A connection that broke every few seconds, with an alert under way each second time: no alert
    was sent any more until the restart, though the broker took hundreds in between.
    """
    outages = Outages()
    for _ in range(20):
        outages.ended(2.0, closed=True, explained=False, answered=True)
        assert not outages.blame("emotide/stream/+/+/alert", 500)
        outages.took("emotide/stream/+/+/alert", 500)
    assert outages.careful
    # A broker that refuses large ones still takes the small ones.
    assert not outages.blame("emotide/node/+/info", 5000)
    outages.took("emotide/node/+/info", 300)
    assert outages.blame("emotide/node/+/info", 6000)
    assert outages.drops("emotide/node/+/info", 6000)
    assert not outages.drops("emotide/node/+/info", 300)
