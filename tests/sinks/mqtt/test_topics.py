"""Topic names, payloads and delivery, without a broker."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config_file import load
from stream.protocol.events import encode
from stream.sinks.mqtt.retained import Retained
from stream.sinks.mqtt.topics import (
    Message,
    StreamNames,
    Topics,
    Utterances,
    deletion,
    level,
    role_levels,
)
from tests.support.mqtt_samples import (
    ANGRY,
    CALM,
    INFO,
    STATS,
    alert,
    encoded,
    end,
    live,
    score,
    segment,
    start,
    summary,
)

READABLE = Topics("emotide", "n1", StreamNames(None))
HASHED = Topics("emotide", "n1", StreamNames(b"secret"))
NASTY = ["a/b", "+", "#", "a+b#c", "$SYS", "", "~", "%2F", "Grüße 😀", "\x00", "a b", "\ud800"]


def fields(message: Message) -> dict[str, Any]:
    decoded = orjson.loads(message.payload)
    assert isinstance(decoded, dict)
    return decoded


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


def test_a_stream_ends_in_json_on_every_retained_topic() -> None:
    """Empty messages broke the templates of Home Assistant and the JSON nodes of Node-RED."""
    state, scores = READABLE.ended(live(), 1.5, 60)
    assert fields(state)["state"] == "ended"
    assert fields(scores) == {
        "v": 1,
        "t": 1500,
        "stream": "call-1",
        "role": "customer",
        "state": "ended",
    }
    for message in (state, scores):
        assert (message.qos, message.retain, message.expiry_s, message.final) == (1, True, 60, True)


def test_a_score_is_flat() -> None:
    stream = live()
    message = READABLE.score(stream, encoded(stream, score(), ts=1_763_838_005.21).body)
    assert (message.qos, message.retain, message.expiry_s) == (0, True, 30)
    assert message.schema == "emotide.score.v1"
    assert fields(message) == {
        "angry": 0.1,
        "happy": 0.2,
        "neutral": 0.7,
        "v": 1,
        "t": 1_763_838_005_210,
        "stream": "call-1",
        "role": "customer",
        "top": "neutral",
        "top_score": 0.7,
        "activation": 0.3,
        "speech_ratio": 0.83,
        "audio_ms": 3000,
    }


def test_a_label_hides_no_field() -> None:
    stream = live()
    payload = fields(READABLE.score(stream, encoded(stream, score({"t": 0.6, "role": 0.4})).body))
    assert payload["role"] == "customer"
    assert payload["t"] > 1


def test_a_segment_is_flat() -> None:
    stream = live()
    message = READABLE.segment(stream, encoded(stream, segment(ANGRY, utterance=3)).body)
    assert (message.qos, message.retain, message.expiry_s) == (1, False, 3600)
    payload = fields(message)
    assert payload["angry"] == 0.8
    assert (payload["top"], payload["utterance"], payload["covered"]) == ("angry", 3, 1.0)
    assert (payload["audio_start_ms"], payload["audio_end_ms"]) == (1000, 4000)
    assert payload["hints"] == ["short_speech"]
    assert not any(isinstance(value, dict) for value in payload.values())


def test_a_segment_without_scores_has_no_top() -> None:
    stream = live()
    payload = fields(READABLE.segment(stream, encoded(stream, segment({})).body))
    assert "top" not in payload


def test_an_alert_is_published_with_all_fields_but_the_ids() -> None:
    stream = live("+49301234567")
    message = HASHED.alert(stream, alert(stream, since_ms=5000).body)
    assert message.topic.endswith("/customer/alert")
    assert (message.qos, message.retain, message.expiry_s) == (1, False, 3600)
    payload = fields(message)
    assert (payload["rule"], payload["state"], payload["value"], payload["since_ms"]) == (
        "anger",
        "new",
        0.8,
        5000,
    )
    assert "session_id" not in payload


def test_node_and_state() -> None:
    assert READABLE.status(True) == Message(
        "emotide/node/n1/status", b"online", 1, True, None, "emotide.status.v1", "text/plain"
    )
    assert READABLE.status(False).payload == b"offline"
    info = READABLE.info(INFO)
    assert (info.qos, info.retain, info.expiry_s) == (1, True, None)
    assert fields(info) == {"v": 1, **INFO}
    stats = READABLE.stats(STATS, 1.5)
    assert (stats.qos, stats.retain, stats.expiry_s) == (0, True, 120)
    assert fields(stats) == {"v": 1, "node": "n1", "t": 1500, **STATS}
    state = READABLE.state(live(roles=("speaker", "speaker"), tags=("sales",)), 2.0)
    assert (state.qos, state.retain, state.expiry_s) == (1, True, 86_400)
    assert fields(state) == {
        "v": 1,
        "t": 2000,
        "stream": "call-1",
        "node": "n1",
        "state": "active",
        "started": "2023-11-14T22:13:20.000Z",
        "roles": ["speaker", "speaker-1"],
        "analysed": ["speaker", "speaker-1"],
        "tags": ["sales"],
    }


def test_a_summary_is_the_mean_of_fresh_scores() -> None:
    calm, angry, silent, stale = (live(f"c{n}", tags=("q:1",)) for n in range(4))
    calm.last[0] = encoded(calm, score(CALM), ts=100)
    angry.last[0] = encoded(angry, score(CALM, rolling={"10s": ANGRY}), ts=110)
    angry.speaking = frozenset({0})
    stale.last[0] = encoded(stale, score({"happy": 1.0}), ts=50)
    message = summary(READABLE, "q:1", [calm, angry, silent, stale], 110)
    assert message.topic == "emotide/group/q%3A1/summary"
    assert (message.qos, message.retain, message.expiry_s) == (0, True, 120)
    payload = fields(message)
    assert payload["angry"] == pytest.approx(0.45)
    assert payload["neutral"] == pytest.approx(0.425)
    assert (payload["top"], payload["streams"], payload["speaking"]) == ("angry", 4, 1)
    assert "stream" not in payload


def test_a_summary_takes_the_window_where_there_is_no_horizon() -> None:
    stream = live(tags=("t",))
    stream.last[0] = encoded(stream, score(ANGRY, rolling={}), ts=1)
    assert fields(summary(READABLE, "t", [stream], 1))["top"] == "angry"
    assert "top" not in fields(summary(READABLE, "t", [], 1))


def test_an_utterance_has_a_beginning_updates_and_an_end() -> None:
    stream = live()
    utterances = Utterances(stream, READABLE.names)

    def step(event: Any) -> tuple[str, Any, Any] | None:
        return utterances.step(encoded(stream, event).body)

    new = step(start())
    assert new is not None
    assert (new[0], new[1], new[2]["start_ms"], new[2]["top"]) == ("new", None, 1000, None)
    first = step(score(CALM))
    assert first is not None
    assert (first[0], first[1]["top"], first[2]["top"]) == ("update", None, "neutral")
    assert step(score(CALM)) is None
    second = step(score(ANGRY))
    assert second is not None
    assert (second[1]["top"], second[2]["top"]) == ("neutral", "angry")
    assert step(end()) is None
    assert step(start(utterance=1)) is not None
    last = step(segment(ANGRY))
    assert last is not None
    assert (last[0], last[1]["top"], last[2]["end_ms"]) == ("end", "angry", 4000)
    assert step(score(CALM)) is None, "its segment was published"
    assert [(kind, after["utterance"]) for kind, _, after in utterances.close()] == [("end", 1)]
    assert utterances.close() == []


def test_a_segment_without_a_beginning_is_an_end() -> None:
    stream = live()
    change = Utterances(stream, READABLE.names).step(encoded(stream, segment()).body)
    assert change is not None
    assert (change[0], change[1], change[2]["start_ms"]) == ("end", None, 1000)


def test_other_events_change_no_utterance() -> None:
    stream = live()
    gap = encode({"type": "stream.gap", "channel": 0}, 1, "s", "c", 0)
    assert Utterances(stream, READABLE.names).step(gap.body) is None


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


def test_the_iot_configuration_loads() -> None:
    config = load(Path(__file__).parents[3] / "configs" / "iot.toml", environ={})
    assert config.mqtt.host
    assert not config.privacy.hash_ids


# -- tenants -----------------------------------------------------------------------------------


def test_topics_of_the_default_tenant_are_those_without_tenants() -> None:
    body = encoded(live(), score()).body
    assert READABLE.score(live(), body).topic == "emotide/stream/call-1/customer/score"
    assert READABLE.state(live(), 0).topic == "emotide/stream/call-1/state"
    assert summary(READABLE, "t", [], 0).topic == "emotide/group/t/summary"
    assert "tenant" not in fields(READABLE.state(live(), 0))


def test_topics_of_another_tenant_are_below_its_name() -> None:
    """One rule in the broker's access list, `emotide/t/acme/#`, is all that a tenant reads."""
    acme = live(tenant="acme")
    body = encoded(acme, score()).body
    step = Utterances(acme, READABLE.names).step(encoded(acme, start()).body)
    assert step is not None
    messages = (
        READABLE.state(acme, 0),
        READABLE.score(acme, body),
        READABLE.segment(acme, encoded(acme, segment()).body),
        READABLE.alert(acme, alert(acme).body),
        READABLE.change(*step, acme.tenant),
        summary(READABLE, "t", [acme], 0, "acme"),
    )
    assert all(message.topic.startswith("emotide/t/acme/") for message in messages)
    ends = [message.topic for message in READABLE.ended(acme, 0, 60)]
    assert ends[1] == "emotide/t/acme/stream/call-1/customer/score"
    assert READABLE.state_topic(acme) == messages[0].topic
    assert fields(messages[0])["tenant"] == "acme"


def test_the_hash_of_an_id_differs_between_tenants() -> None:
    """A reader of the topics of two tenants cannot see that one person called both."""
    names = {HASHED.names.of(live(tenant=tenant)) for tenant in ("default", "acme", "globex")}
    assert len(names) == 3
