"""Summaries of groups: periods, shares of alerts, small groups, tenants, bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from stream.delivery import groups as module
from stream.delivery.group_sink import GroupSink
from stream.delivery.groups import Groups
from stream.delivery.live_stream import LiveStream
from stream.tenants import ANY, DEFAULT, Principal
from tests.support.mqtt_samples import ANGRY, CALM, QUALITY, alert, encoded, live, score, segment

Q = (DEFAULT, "q")


def calls(count: int, **fields: Any) -> list[LiveStream]:
    return [live(f"call-{n}", tags=("q",), **fields) for n in range(count)]


def speak(
    groups: Groups, stream: LiveStream, now: float, scores: Any = CALM, s: float = 2.5
) -> None:
    spoken = replace(segment(scores), quality=replace(QUALITY, speech_s=s))
    groups.event(stream, encoded(stream, spoken), now)


def test_periods_weigh_utterances_by_their_speech_and_forget() -> None:
    groups, streams = Groups(1), calls(2)
    for stream in streams:
        groups.opened(stream, 0)
    speak(groups, streams[0], 5, CALM, s=3.0)
    speak(groups, streams[1], 5, ANGRY, s=1.0)
    now = groups.summary(Q, 10)
    assert now["m1"]["speech_s"] == now["m5"]["speech_s"] == 4.0
    assert now["m1"]["angry"] == pytest.approx((3 * 0.1 + 0.8) / 4)
    assert (now["m1"]["top"], now["m1"]["streams"]) == ("neutral", 2)
    assert 0 < now["m1"]["activation"] < 1
    later = groups.summary(Q, 70)
    assert "angry" not in later["m1"]
    assert later["m1"]["streams"] == 2, "live streams without speech count"
    assert later["m5"]["speech_s"] == 4.0
    assert groups.summary(Q, 400)["m15"]["speech_s"] == 4.0
    assert groups.summary(Q, 1000)["m15"]["speech_s"] == 0


def test_the_share_of_streams_with_alerts() -> None:
    """Several alerts of one call, and their updates and ends, are one call with an alert."""
    groups, streams = Groups(1), calls(4)
    for stream in streams:
        groups.opened(stream, 0)
    for state in ("new", "update", "end", "new"):
        groups.event(streams[0], alert(streams[0], state=state), 1)
    groups.event(streams[1], alert(streams[1], state="end"), 1)
    assert groups.summary(Q, 1)["m1"]["alerted"] == 0.25
    for stream in streams:
        groups.closed(stream, 2)
    assert groups.summary(Q, 200)["m1"]["alerted"] == 0, "no stream, no share"


def test_a_label_is_averaged_over_those_who_send_it() -> None:
    """A session that asks for two labels only would otherwise pull the mean of the others to 0."""
    groups, streams = Groups(1), calls(2)
    for stream, scores in zip(streams, (CALM, {"angry": 0.5, "neutral": 0.5}), strict=True):
        groups.opened(stream, 0)
        stream.last[0] = encoded(stream, score(scores), ts=0)
        speak(groups, stream, 1, scores)
    summary = groups.summary(Q, 2)
    for part in (summary, summary["m1"]):
        assert part["happy"] == 0.2
        assert part["neutral"] == 0.6


def test_a_small_group_is_withheld() -> None:
    """The only call of a queue has a face: its mean is that of one person."""
    groups, streams = Groups(3), calls(3)
    for stream in streams[:2]:
        groups.opened(stream, 0)
        stream.last[0] = encoded(stream, score(ANGRY), ts=0)
        speak(groups, stream, 1)
    small = groups.summary(Q, 2)
    assert small == {
        "group": "q",
        "withheld": True,
        **{period: {"withheld": True} for period in ("m1", "m5", "m15")},
    }
    groups.opened(streams[2], 3)
    silent = groups.summary(Q, 3)
    assert (silent["streams"], silent["withheld"], silent["m1"]["withheld"]) == (3, True, True)
    assert "angry" not in silent
    assert "angry" not in silent["m1"], "a mean of two, although three are live"
    speak(groups, streams[2], 4, ANGRY)
    streams[2].last[0] = encoded(streams[2], score(ANGRY), ts=4)
    full = groups.summary(Q, 5)
    assert full["m1"]["angry"] == 0.3333
    assert full["angry"] == 0.8
    assert "withheld" not in full
    for stream in streams:
        groups.closed(stream, 6)
    assert groups.summary(Q, 7)["streams"] == 0
    assert groups.summary(Q, 7)["m1"]["streams"] == 3


def test_no_summary_names_a_stream() -> None:
    groups = Groups(1)
    stream = live("+49301234567", tags=("q",))
    groups.opened(stream, 0)
    speak(groups, stream, 1)
    text = orjson.dumps(groups.summary(Q, 2))
    assert b"49301234567" not in text
    assert stream.session_id.encode() not in text


def test_a_stream_moves_with_its_tags_and_its_past_stays() -> None:
    groups, [stream] = Groups(1), calls(1)
    groups.opened(stream, 0)
    speak(groups, stream, 1)
    stream.tags = ("vip",)
    groups.changed(stream, 2)
    speak(groups, stream, 3, s=1.0)
    assert groups.summary(Q, 4)["m1"]["speech_s"] == 2.5
    assert groups.summary(Q, 4)["streams"] == 0
    assert groups.summary((DEFAULT, "vip"), 4)["m1"]["speech_s"] == 1.0


def test_a_tenant_sees_its_own_groups() -> None:
    sink = GroupSink(1, lambda: 10.0)
    for tenant in (DEFAULT, "acme"):
        sink.opened(live(tags=("q",), tenant=tenant))
    acme, all_ = Principal("k", "acme"), Principal("k", DEFAULT, frozenset({ANY}))
    [own] = sink.list(acme)["groups"]
    assert (own["group"], own["streams"], "tenant" in own) == ("q", 1, False)
    assert [group["tenant"] for group in sink.list(all_)["groups"]] == ["acme", DEFAULT]


def test_groups_are_forgotten_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags are the producers' words: one per call would otherwise fill the memory."""
    monkeypatch.setattr(module, "MAX_GROUPS", 50)
    groups = Groups(1)
    keeps = live("keeps", tags=("stays",))
    groups.opened(keeps, 0)
    for number in range(200):
        stream = live(f"call-{number}", tags=(f"ticket:{number}",))
        groups.opened(stream, number)
        groups.closed(stream, number)
    known = groups.groups(200)
    assert len(known) == 50
    assert (DEFAULT, "stays") in known
    assert (DEFAULT, "ticket:199") in known
    assert groups.groups(5000) == [(DEFAULT, "stays")]
    assert groups._tags.keys() == {keeps}
    history = groups._groups[DEFAULT, "stays"]
    for now in range(0, 4000, 10):
        speak(groups, keeps, now)
    assert len(history.buckets) <= 90
