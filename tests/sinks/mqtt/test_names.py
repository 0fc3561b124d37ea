"""Names as levels of topics: injective, without wildcards, and hashed without a trace."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sinks.mqtt.names import StreamNames, level, role_levels
from stream.sinks.mqtt.topics import Topics
from stream.sinks.mqtt.utterances import Utterances
from tests.support.mqtt_samples import (
    HASHED,
    READABLE,
    alert,
    encoded,
    fields,
    live,
    score,
    segment,
    start,
    summary,
)

NASTY = ["a/b", "+", "#", "a+b#c", "$SYS", "", "~", "%2F", "Grüße 😀", "\x00", "a b", "\ud800"]


@pytest.mark.parametrize("text", NASTY)
def test_a_level_holds_no_wildcard_and_no_separator(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", level(text))


@given(st.text(), st.text())
def test_levels_are_injective(one: str, other: str) -> None:
    assert (level(one) == level(other)) == (one == other)


def test_ordinary_names_stay_readable() -> None:
    assert level("line_3.front-desk") == "line_3.front-desk"
    assert level("+49:30/1") == "%2B49%3A30%2F1"


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("topics", [READABLE, HASHED])
def test_no_name_adds_a_level_or_a_wildcard(topics: Topics, text: str) -> None:
    stream = live(text, roles=(text,), tags=(text,))
    body = encoded(live(), score()).body
    for topic in (
        topics.state_topic(stream),
        topics.score(stream, body).topic,
        summary(topics, text, [], 0).topic,
        Topics("emotide", text, StreamNames(None)).status(True).topic,
    ):
        assert re.fullmatch(r"emotide(/[A-Za-z0-9_.%-]+){3,4}", topic)
        assert topic.count("/") == (4 if topic.endswith("/score") else 3)


def test_hashed_names_are_keyed_and_stable() -> None:
    name = StreamNames(b"secret").of(live("+49 30 1234"))
    assert re.fullmatch(r"[0-9a-f]{16}", name)
    assert name == StreamNames(b"secret").of(live("+49 30 1234"))
    assert name != StreamNames(b"other").of(live("+49 30 1234"))
    assert name != StreamNames(b"secret").of(live("+49 30 1235"))
    assert StreamNames(b"x" * 200).of(live("a")) != StreamNames(b"x" * 201).of(live("a"))


def test_hashing_leaves_no_trace_of_the_id() -> None:
    stream = live("+49301234567", tags=("sales",))
    event = encoded(stream, score())
    stream.last[0] = event
    utterances = Utterances(stream, HASHED.names)
    step = utterances.step(encoded(stream, start()).body)
    assert step is not None
    for message in (
        HASHED.state(stream, 0),
        HASHED.score(stream, event.body),
        HASHED.segment(stream, encoded(stream, segment()).body),
        HASHED.alert(stream, alert(stream).body),
        HASHED.change(*step),
        summary(HASHED, "sales", [stream], 0),
    ):
        assert b"49301234567" not in message.payload
        assert "49301234567" not in message.topic
    assert fields(HASHED.score(stream, event.body))["stream"] == HASHED.names.of(stream)


def test_channels_of_one_role_have_distinct_topics() -> None:
    assert role_levels(("speaker", "speaker", "agent")) == ("speaker", "speaker-1", "agent")
    stream = live(roles=("speaker", "speaker"))
    second = READABLE.score(stream, encoded(stream, score(channel=1)).body)
    assert second.topic == "emotide/stream/call-1/speaker-1/score"
    assert fields(second)["role"] == "speaker-1"
    assert [message.topic for message in READABLE.ended(stream, 0, 60)] == [
        "emotide/stream/call-1/state",
        "emotide/stream/call-1/speaker/score",
        "emotide/stream/call-1/speaker-1/score",
    ]


def test_the_hash_of_an_id_differs_between_tenants() -> None:
    """A reader of the topics of two tenants cannot see that one person called both."""
    names = {HASHED.names.of(live(tenant=tenant)) for tenant in ("default", "acme", "globex")}
    assert len(names) == 3
