"""Alerts of one stream: what is judged, on which channel, with which evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stream.alert_rules import AlertRule
from stream.alerts.bodies import alert_body
from stream.alerts.book import MAX_SUBSCRIBERS_RULES, RuleBook, TooManyRules
from stream.alerts.monitor import Alert, OwnedRule, StreamAlerts
from stream.alerts.values import LEAST_SPAN_S, Trend
from stream.analysis.conversation import ConversationReport, Measures, Side
from stream.tenants import Principal
from stream.terms import Hint
from stream.types import SAMPLE_RATE as S
from stream.types import BaselineUse, Quality, Score, Segment
from tests.support.contract import document, validator

ROLES = ("customer", "agent")
ANGRY = {"angry": 0.7, "happy": 0.1, "neutral": 0.1, "sad": 0.1}
CALM = {"angry": 0.1, "happy": 0.1, "neutral": 0.7, "sad": 0.1}
QUALITY = Quality(rms_dbfs=-20.0, clipped=0.0, snr_db=None, band="wide", speech_s=4.0)


def rule(**fields: Any) -> AlertRule:
    value = {} if {"index", "conversation"} & fields.keys() else {"label": "angry"}
    return AlertRule.model_validate({"name": "r", "above": 0.6, **value, **fields})


def monitor(*rules: AlertRule) -> StreamAlerts:
    return StreamAlerts(ROLES, [OwnedRule(one) for one in rules])


def score(
    at_s: float,
    scores: Mapping[str, float] = ANGRY,
    hints: tuple[Hint, ...] = (),
    channel: int = 0,
    rolling: Mapping[str, float] | None = None,
    change: float | None = None,
) -> Score:
    use = None
    if change is not None:
        # ANGRY has an activation of 0.8.
        use = BaselineUse(30.0, 0.5, np.zeros(4, np.float32), ANGRY, 0.8 - change)
    return Score(
        channel=channel,
        utterance=3,
        start=round((at_s - 3) * S),
        end=round(at_s * S),
        trigger="interval",
        speech_ratio=1.0,
        scores=scores,
        rolling={"10s": scores if rolling is None else rolling, "call": CALM},
        quality=QUALITY,
        hints=hints,
        baseline=use,
    )


def segment(at_s: float, scores: Mapping[str, float]) -> Segment:
    return Segment(
        channel=0,
        utterance=3,
        start=round((at_s - 3) * S),
        end=round(at_s * S),
        trigger="speech_end",
        covered=1.0,
        scores=scores,
        rolling={"10s": scores},
        quality=QUALITY,
        hints=(),
    )


def states(alerts: list[Alert]) -> list[str]:
    return [alert.change.state for alert in alerts]


@pytest.mark.parametrize(
    ("fields", "raised"),
    [
        ({"label": "angry"}, True),
        ({"label": "sad"}, False),
        ({"label": "angry", "horizon": "call"}, False),
        ({"label": "angry", "horizon": "window"}, True),
        ({"index": "negative"}, True),
        ({"index": "negative", "above": 0.81}, False),
        ({"index": "activation"}, True),
        ({"index": "activation_change"}, False),
        ({"index": "activation_change", "above": 0.3}, True),
        ({"roles": ["customer"]}, True),
        ({"roles": ["agent"]}, False),
    ],
)
def test_a_rule_compares_its_value_over_its_horizon(fields: dict[str, Any], raised: bool) -> None:
    alerts = monitor(rule(**fields)).scored(score(4, change=0.4))
    assert states(alerts) == (["new"] if raised else [])


@pytest.mark.parametrize("hint", ["short_speech", "music", "tone"])
def test_short_speech_and_music_raise_no_alert(hint: Hint) -> None:
    """Hold music sounds excited to a model; nobody may be called to it."""
    watched = monitor(rule())
    assert watched.scored(score(4, hints=(hint,))) == []
    assert states(watched.scored(score(5, hints=("narrowband", "clipped")))) == ["new"]


@pytest.mark.parametrize("label", ["unknown", "other"])
def test_a_voice_that_the_model_does_not_know_raises_no_alert(label: str) -> None:
    unknown = {**ANGRY, label: 0.8}
    watched = monitor(rule())
    assert watched.scored(score(4, unknown)) == []
    assert watched.scored(score(5, ANGRY, rolling=unknown)) == []


def test_what_is_not_judged_ends_no_alert_either_until_30_s_have_passed() -> None:
    watched = monitor(rule())
    watched.scored(score(4))
    assert watched.scored(score(5, CALM, hints=("short_speech",))) == []
    assert watched.advanced(33 * S, None) == []
    [ended] = watched.advanced(34 * S, None)
    assert ended.change.reason == "no_speech"


def test_a_rule_that_does_not_apply_hides_no_other() -> None:
    """Of another role, of the conversation, of a trend, of an index that this event lacks."""
    others = [
        rule(roles=["agent"]),
        rule(conversation="dead_air", above=1.0),
        rule(trend=True),
        rule(index="activation_change", above=0.1),
        rule(label="surprised"),
    ]
    for other in others:
        assert states(monitor(other, rule()).scored(score(5))) == ["new"], other


@pytest.mark.parametrize(("horizon", "angry"), [("window", 0.7), ("10s", 0.65)])
def test_the_evidence_is_what_the_rule_compared(horizon: str, angry: float) -> None:
    watched = monitor(rule(horizon=horizon))
    [alert] = watched.scored(score(5, rolling={**ANGRY, "angry": 0.65}))
    assert alert.evidence is not None
    assert alert.evidence.scores["angry"] == angry


def test_every_value_that_a_rule_compares_is_reported() -> None:
    """The trial of rules on a recording draws them."""
    seen: list[tuple[int | None, int, float]] = []
    owned = OwnedRule(rule())
    alerts = StreamAlerts(ROLES, [owned], lambda _, channel, at, v: seen.append((channel, at, v)))
    alerts.scored(score(5))
    alerts.scored(score(6, CALM, channel=1))
    assert seen == [(0, 5 * S, 0.7), (1, 6 * S, 0.1)]


def test_each_channel_has_its_own_state() -> None:
    watched = monitor(rule())
    [one] = watched.scored(score(4))
    [two] = watched.scored(score(4, channel=1))
    assert one.id != two.id
    assert (one.channel, two.channel) == (0, 1)
    assert {alert.id for alert in watched.finish(9 * S)} == {one.id, two.id}


def test_the_second_alert_of_a_rule_has_another_id() -> None:
    watched = monitor(rule(cooldown_s=0))
    [first] = watched.scored(score(4))
    [end] = watched.scored(score(5, CALM))
    [second] = watched.scored(score(6))
    assert first.id == end.id != second.id


def side(channel: int, **measures: Any) -> Side:
    return Side(channel, **measures)


REPORT = ConversationReport(
    end=60 * S,
    silence_now=0,
    minute=Measures(
        heard=60 * S,
        silence=20 * S,
        dead_air=10 * S,
        longest_silence=10 * S,
        overlap=15 * S,
        sides=(
            side(0, talk=10 * S, share=0.2, overlap=3 * S, response=8 * S, longest_turn=4 * S),
            side(1, talk=40 * S, share=0.8, overlap=12 * S, longest_turn=35 * S),
        ),
    ),
    call=Measures(60 * S, 0, 0, 0, 0, ()),
)


@pytest.mark.parametrize(
    ("fields", "channels"),
    [
        ({"conversation": "overlap", "above": 0.25}, [None]),
        ({"conversation": "overlap", "above": 0.26}, []),
        ({"conversation": "talks_over", "above": 0.2}, [1]),
        ({"conversation": "talk_share", "above": 0.7}, [1]),
        ({"conversation": "talk_share", "above": 0.1}, [0, 1]),
        ({"conversation": "talk_share", "above": 0.1, "roles": ["customer"]}, [0]),
        ({"conversation": "response", "above": 7}, [0]),
        ({"conversation": "longest_turn", "above": 30}, [1]),
    ],
)
def test_a_rule_compares_the_conversation_of_the_last_minute(
    fields: dict[str, Any], channels: list[int | None]
) -> None:
    assert [alert.channel for alert in monitor(rule(**fields)).measured(REPORT)] == channels


def test_shares_of_a_minute_that_has_hardly_begun_are_not_judged() -> None:
    early = replace(REPORT, minute=replace(REPORT.minute, heard=29 * S))
    for value in ("overlap", "talks_over", "talk_share"):
        assert monitor(rule(conversation=value, above=0.01)).measured(early) == []


def test_dead_air_raises_while_it_lasts_and_ends_with_the_first_word() -> None:
    watched = monitor(rule(conversation="dead_air", above=10))
    assert watched.advanced(9 * S, 9 * S) == []
    [new] = watched.advanced(10 * S, 10 * S)
    assert (new.channel, new.change.value, new.evidence) == (None, 10.0, None)
    [update] = watched.advanced(20 * S, 20 * S)
    [end] = watched.advanced(21 * S, 0)
    assert [a.change.state for a in (new, update, end)] == ["new", "update", "end"]
    assert end.change.peak == 20.0


def test_an_alert_of_the_conversation_ends_when_it_is_measured_no_more() -> None:
    """Both channels turned out to carry one voice; the dead air would have lasted for ever."""
    watched = monitor(rule(conversation="dead_air", above=10))
    watched.advanced(10 * S, 10 * S)
    [end] = watched.advanced(11 * S, None)
    assert (end.change.state, end.change.reason) == ("end", "no_speech")
    assert watched.advanced(12 * S, None) == []


def test_a_trend_is_the_rise_of_a_line_through_the_utterances() -> None:
    line = Trend()
    rises = [line.add(20.0 * n, 0.1 + 0.1 * n, 3.0) for n in range(6)]
    assert rises[:4] == [None] * 4, "five utterances over a minute are needed"
    assert rises[4] == pytest.approx(0.4)
    assert rises[5] == pytest.approx(0.5)


def test_a_trend_needs_a_minute_and_speech() -> None:
    line, silent = Trend(), Trend()
    rises = [line.add(LEAST_SPAN_S / 4 * n, 0.1 * n, 3.0) for n in range(5)]
    assert rises[4] == pytest.approx(0.4), "a minute is enough"
    assert [silent.add(20.0 * n, 0.1 * n, 0.0) for n in range(6)] == [None] * 6


def test_a_long_utterance_weighs_more_in_the_trend() -> None:
    even, uneven = Trend(), Trend()
    for n, value in enumerate((0.2, 0.2, 0.2, 0.2, 0.8)):
        flat = even.add(20.0 * n, value, 3.0)
        steep = uneven.add(20.0 * n, value, 30.0 if n == 4 else 1.0)
    assert flat is not None
    assert steep is not None
    assert steep > flat


def test_a_rising_call_raises_and_one_that_is_angry_throughout_does_not() -> None:
    fields = {"index": "negative", "trend": True, "above": 0.3}
    rising, angry = monitor(rule(**fields)), monitor(rule(**fields))
    found, none = [], []
    for n in range(8):
        share = 0.1 + 0.1 * n
        found += rising.scored(segment(20 * n + 4, {"angry": share, "neutral": 1 - share}))
        none += angry.scored(segment(20 * n + 4, ANGRY))
    assert states(found) == ["new", "update", "update", "update"]
    assert none == []


def test_a_rule_that_is_removed_ends_its_alerts() -> None:
    kept, gone = rule(name="kept"), rule(name="gone")
    watched = monitor(kept, gone)
    assert len(watched.scored(score(4))) == 2
    [ended] = watched.replace_rules([OwnedRule(kept)], 5 * S)
    assert (ended.owned.rule.name, ended.change.reason) == ("gone", "rule_removed")
    [ended] = watched.finish(9 * S)
    assert (ended.owned.rule.name, ended.change.reason) == ("kept", "stream_ended")


def test_the_body_conforms_to_the_contract_and_names_its_evidence() -> None:
    watched = monitor(rule(for_s=1, severity="critical"), rule(name="d", conversation="dead_air"))
    watched.scored(score(4))
    [alert] = watched.scored(score(6, hints=("narrowband",)))
    body = alert_body(alert, ROLES, "0123456789abcdef")
    assert body["text"] == "indicator: angry over 10s at or above 0.6 for 1 s"
    assert (body["since_ms"], body["audio_ms"], body["role"]) == (4000, 6000, "customer")
    assert body["evidence"] == {
        "scores": ANGRY,
        "utterance": 3,
        "speech_s": 4.0,
        "hints": ["narrowband"],
    }
    [silence] = watched.advanced(9 * S, 3 * S)
    common = {"v": 1, "seq": 0, "session_id": "ses_" + "0" * 24, "stream_id": "call"}
    check = validator(document()["components"]["schemas"]["Alert"])
    for one in (alert, silence):
        event = {**alert_body(one, ROLES, "0123456789abcdef"), **common}
        check.validate({**event, "ts": "2026-11-22T21:13:47.402Z"})
    assert "channel" not in alert_body(silence, ROLES, "0123456789abcdef")


def test_an_objection_leaves_no_scores_in_the_end() -> None:
    watched = monitor(rule())
    watched.scored(score(4))
    [end] = watched.finish(5 * S, "objected")
    assert end.evidence is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "angry", "index": "negative"}, "exactly one of"),
        ({"label": None}, "exactly one of"),
        ({"label": "furious"}, "not one of angry"),
        ({"label": "unknown"}, "says nothing"),
        ({"above": 1.5}, "share from 0 to 1"),
        ({"above": 0}, "larger than 0"),
        ({"clear_below": 0.7}, "clear_below must not be larger"),
        ({"conversation": "dead_air", "roles": ["agent"]}, "leave roles out"),
        ({"conversation": "dead_air", "trend": True}, "trend is that of"),
        ({"horizon": "10"}, "horizon"),
        ({"name": "two words"}, "name"),
        ({"treshold": 1}, "treshold"),
        ({"above": float("nan")}, "above"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(**fields)


def names(book: RuleBook, tenant: str = "default", tags: tuple[str, ...] = ()) -> list[str]:
    return [owned.rule.name for owned in book.rules(tenant, tags)]


def test_a_rule_applies_to_its_tenants_and_tags() -> None:
    book = RuleBook([rule(name="sales", tags=["sales"]), rule(name="acme", tenants=["acme"])])
    assert names(book) == []
    assert names(book, tags=("sales", "x")) == ["sales"]
    assert names(book, "acme") == ["acme"]


def test_a_subscribers_rules_apply_to_its_tenant_and_to_others_that_it_names() -> None:
    book = RuleBook()
    watcher = Principal("desk", "acme", frozenset(["globex"]))
    book.replace("c1", [rule(name="own"), rule(name="named", tenants=["globex"])], watcher)
    book.replace("c2", [rule(name="foreign", tenants=["default"])], watcher)
    assert names(book, "acme") == ["own"]
    assert names(book, "globex") == ["named"]
    assert names(book, "default") == [], "it may not watch this tenant"
    version = book.version
    book.replace("c1", ())
    assert names(book, "acme") == []
    assert book.version > version


def test_the_rules_of_all_subscribers_are_bounded() -> None:
    book = RuleBook()
    rules = [rule(name=str(n)) for n in range(32)]
    for owner in range(MAX_SUBSCRIBERS_RULES // 32):
        book.replace(str(owner), rules)
    with pytest.raises(TooManyRules):
        book.replace("more", rules[:1])
    book.replace("0", rules[:1])
    book.replace("more", rules[:1])
