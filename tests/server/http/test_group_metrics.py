"""Metrics of groups: which tags become labels, and what is withheld."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from stream.delivery.group_sink import GroupSink
from stream.server.http.group_metrics import MAX_GROUPS, GroupCollector
from tests.support.mqtt_samples import ANGRY, alert, encoded, live, segment


def scraped(sink: GroupSink, *patterns: str) -> str:
    registry = CollectorRegistry()
    registry.register(GroupCollector(sink, patterns))
    return generate_latest(registry).decode()


def test_a_group_has_its_last_minute() -> None:
    sink = GroupSink(1, lambda: 100.0)
    stream = live(tags=("room:kitchen", "ticket:7"), tenant="acme")
    sink.opened(stream)
    sink.event(stream, encoded(stream, segment(ANGRY)))
    sink.event(stream, alert(stream))
    text = scraped(sink, "room:*")
    names = 'group="room:kitchen",tenant="acme"'
    assert f"emotide_group_streams{{{names}}} 1.0" in text
    assert f"emotide_group_speech_seconds{{{names}}} 2.5" in text
    assert f"emotide_group_alerted_ratio{{{names}}} 1.0" in text
    assert 'emotide_group_score_ratio{group="room:kitchen",label="angry",tenant="acme"} 0.8' in text
    assert "ticket" not in text, "tags are the producers' words: one per call would be a label"


def test_small_groups_have_no_series() -> None:
    sink = GroupSink(3, lambda: 100.0)
    sink.opened(live(tags=("room:kitchen",)))
    assert "kitchen" not in scraped(sink, "*")


def test_series_are_bounded() -> None:
    sink = GroupSink(1, lambda: 100.0)
    for number in range(2 * MAX_GROUPS):
        sink.opened(live(f"c{number}", tags=(f"room:{number}",)))
    assert scraped(sink, "*").count("emotide_group_streams{") == MAX_GROUPS
