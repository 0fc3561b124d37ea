"""Changes of utterances: new, update, end."""

from __future__ import annotations

from typing import Any

from stream.protocol.events import encode
from stream.sinks.mqtt.utterances import Utterances
from tests.support.mqtt_samples import (
    ANGRY,
    CALM,
    READABLE,
    encoded,
    end,
    live,
    score,
    segment,
    start,
)


def test_an_utterance_has_a_beginning_updates_and_an_end() -> None:
    stream = live()
    utterances = Utterances(stream, READABLE.names)

    def step(event: Any) -> tuple[str, Any, Any] | None:
        return utterances.step(encoded(stream, event).body)

    new = step(start())
    assert new is not None
    assert (new[0], new[1], new[2]["start_ms"], new[2]["top"]) == ("new", None, 1000, None)
    message = READABLE.change("new", None, new[2])
    assert (message.topic, message.qos, message.retain, message.minor) == (
        "emotide/events",
        1,
        False,
        True,
    )
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
