"""Topic names, payloads and delivery, without a broker."""

from __future__ import annotations

import pytest

from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.utterances import Utterances
from tests.support.mqtt_samples import (
    ANGRY,
    CALM,
    HASHED,
    INFO,
    READABLE,
    STATS,
    alert,
    encoded,
    fields,
    live,
    score,
    segment,
    start,
    summary,
)


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


def test_the_summary_of_an_empty_group_is_its_last() -> None:
    stream = live(tags=("t",))
    stream.last[0] = encoded(stream, score(ANGRY), ts=1)
    assert not summary(READABLE, "t", [stream], 1).final
    assert summary(READABLE, "t", [], 1).final


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
