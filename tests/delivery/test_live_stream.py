"""State of a live stream, and the events kept for those who return."""

from __future__ import annotations

import orjson

from tests.support.subscribing import (
    event,
    score,
    stream,
)


def test_the_replay_for_subscribers_has_no_event_that_is_for_the_producer_only() -> None:
    """Errors of a producer, with what they quote, reached subscribers who asked with `since`."""
    live = stream()
    live.remember(event("warning", 1))
    live.remember(event("error", 2), shared=False)
    live.remember(event("audio.ack", 3), shared=False)
    assert [e.seq for e in live.replay.shared_since(-1)] == [1]
    assert [e.seq for e in live.replay.shared_since(1)] == []
    assert [e.seq for e in live.replay.since(-1)] == [1, 2, 3]


def test_a_snapshot_shows_state_and_newest_scores() -> None:
    live = stream(tags=("de",))
    live.last[1], live.last[0] = score(2, channel=1), score(1)
    live.speaking = frozenset({1})
    shown = live.snapshot()
    assert (shown["stream_id"], shown["state"], shown["tags"]) == ("call-1", "active", ["de"])
    assert shown["roles"] == ["customer", "agent"]
    assert shown["speaking"] == [1]
    live.state = "detached"
    assert live.snapshot()["speaking"] == [], "the producer is away"
    live.state = "active"
    assert live.snapshot()["speaking"] == [1]
    assert [body["seq"] for body in shown["last"]] == [1, 2]
    orjson.dumps(shown)
