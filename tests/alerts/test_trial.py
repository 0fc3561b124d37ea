"""Trial of rules on a recording: values, alerts, and the reason for a rule without values."""

from __future__ import annotations

from typing import Any

import pytest

from stream.alert_rules import AlertRule
from stream.alerts.curve import Curve
from stream.alerts.trial import Heard, Trial
from stream.protocol.wire.trials import MAX_POINTS, MAX_TRIED_ALERTS, RuleTrial
from stream.types import SAMPLE_RATE as S
from tests.alerts.test_monitor import ANGRY, CALM, REPORT, rule, score
from tests.support.contract import document, validator

HEARD = Heard(("customer", "agent"), (0,), (0, 1), tuple(ANGRY), baseline=True)


def trial(*rules: AlertRule, heard: Heard = HEARD) -> Trial:
    return Trial(rules, heard)


def only(tried: Trial) -> RuleTrial:
    [body] = tried.report()
    validator(document()["components"]["schemas"]["RuleTrial"]).validate(body)
    return body


def test_an_alert_has_its_times_and_the_evidence_of_its_beginning() -> None:
    tried = trial(rule(for_s=2))
    for at in (4, 5, 6):
        tried.scored(score(at))
    tried.scored(score(7, CALM, hints=("short_speech",)))
    tried.scored(score(8, CALM))
    body = only(tried)
    [alert] = body["alerts"]
    assert (alert["since_s"], alert["start_s"], alert["end_s"]) == (4.0, 6.0, 8.0)
    assert (alert["reason"], alert["peak"]) == ("cleared", 0.7)
    assert alert["evidence"]["scores"] == ANGRY
    assert body["values"]["at_s"] == [4.0, 5.0, 6.0, 8.0]
    assert body["values"]["high"] == [0.7, 0.7, 0.7, 0.1]
    assert (body["judged"], body["left_out"], body["count"]) == (4, 1, 1)
    assert (body["channel"], body["role"], body["unit"]) == (0, "customer", "share")


def test_an_alert_that_is_open_at_the_end_is_listed() -> None:
    tried = trial(rule())
    tried.scored(score(4))
    tried.finish(9 * S)
    [alert] = only(tried)["alerts"]
    assert (alert["end_s"], alert["reason"]) == (9.0, "stream_ended")


def test_values_of_the_conversation_belong_to_the_stream_or_to_each_side() -> None:
    tried = trial(
        rule(name="dead", conversation="dead_air", above=10),
        rule(name="share", conversation="talk_share", above=0.7),
    )
    tried.advanced(12 * S, 12 * S)
    tried.measured(REPORT)
    dead, customer, agent = tried.report()
    assert "channel" not in dead
    assert (dead["unit"], dead["values"]["high"], dead["left_out"]) == ("s", [12.0], 0)
    assert [(one["role"], one["values"]["high"]) for one in (customer, agent)] == [
        ("customer", [0.2]),
        ("agent", [0.8]),
    ]


ALONE = Heard(("speaker",), (0,), (), tuple(ANGRY), baseline=False)


@pytest.mark.parametrize(
    ("fields", "heard", "why"),
    [
        ({"conversation": "dead_air"}, ALONE, "no_conversation"),
        ({"conversation": "talk_share"}, ALONE, "no_conversation"),
        ({"roles": ["agent"]}, HEARD, "no_channel"),
        ({"label": "surprised"}, HEARD, "no_label"),
        ({"index": "activation_change"}, ALONE, "no_baseline"),
        ({"index": "negative", "trend": True}, HEARD, "not_judged"),
        ({}, HEARD, "not_judged"),
    ],
)
def test_a_rule_without_values_says_why(fields: dict[str, Any], heard: Heard, why: str) -> None:
    """A rule that stays silent on a recording looks like one that works; it may never work."""
    tried = trial(rule(**fields), heard=heard)
    tried.scored(score(4, hints=("music",)))
    assert only(tried)["why"] == why


def test_tags_and_tenants_do_not_keep_a_rule_from_being_tried() -> None:
    tried = trial(rule(tags=["queue:billing"], tenants=["acme"]))
    tried.scored(score(4))
    tried.finish(5 * S)
    assert only(tried)["count"] == 1


def test_two_rules_with_one_name_are_tried_apart() -> None:
    """The server's rule and one that is tried against it usually have the same name."""
    tried = trial(rule(above=0.65), rule(above=0.75), rule(above=0.65))
    tried.scored(score(4))
    tried.finish(5 * S)
    assert [body["count"] for body in tried.report()] == [1, 0, 1]


def test_a_long_recording_has_a_bounded_result_with_all_peaks() -> None:
    curve = Curve()
    for n in range(100_000):
        curve.add(float(n), 1.0 if n == 77_777 else n % 7 / 10)
    body = curve.body()
    assert MAX_POINTS / 2 <= len(body["at_s"]) <= MAX_POINTS
    assert (max(body["high"]), min(body["low"])) == (1.0, 0.0)
    peak = body["high"].index(1.0)
    assert body["at_s"][peak] <= 77_777 < body["at_s"][peak + 1]
    assert body["at_s"] == sorted(body["at_s"])


def test_a_rule_that_raises_all_the_time_has_a_bounded_list() -> None:
    tried = trial(rule(cooldown_s=0))
    for n in range(4, 2 * MAX_TRIED_ALERTS + 104, 2):
        tried.scored(score(n))
        tried.scored(score(n + 1, CALM))
    body = only(tried)
    assert len(body["alerts"]) == MAX_TRIED_ALERTS
    assert body["count"] == MAX_TRIED_ALERTS + 50
