"""Records that are made of a live stream's events, and of the result of a recording."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stream.delivery.live_stream import LiveStream
from stream.history.storage.identity import Identities
from stream.history.storage.record import SessionRecord, decode
from stream.history.writing.collector import MAX_ALERTS, Collector
from stream.protocol.events import AnalysisEvents
from stream.types import BaselineUse, Event, Gap, Quality, Segment
from tests.support.mqtt_samples import MODEL

SHARES = {"angry": 0.5, "happy": 0.25, "neutral": 0.25}
ROOM = 1_000_000


class Call:
    """A stream, and the collector that gets its events."""

    def __init__(self, key: bytes | None = None, **fields: Any) -> None:
        values: dict[str, Any] = {
            "stream_id": "+49 30 1234",
            "session_id": "ses_1",
            "roles": ("customer", "agent"),
            "analysed": (0,),
            "tags": ("queue:a",),
            "started": 1.7e9,
            "attrs": {"customer": "4711", "capture": {"autoGainControl": True}, "vip": True},
        }
        self.live = LiveStream(**(values | fields))
        self.collector = Collector(self.live, "uid-1", "node-1", Identities(key))
        self._bodies = AnalysisEvents(self.live.roles, MODEL)
        analysis = {"model": {"id": "sample", "revision": "1", "licence": "Apache-2.0"}}
        self.add({"type": "session.created", "session": {"analysis": analysis}})

    def add(self, body: dict[str, Any], room: int = ROOM) -> None:
        self.collector.add(body, room)

    def event(self, event: Event) -> None:
        self.add(dict(self._bodies.body(event)))

    def say(self, number: int, begin_s: int, end_s: int, shares: dict[str, float]) -> None:
        quality = Quality(-20.0, 0.0, None, "wide", 2.5)
        start, end = begin_s * 16_000, end_s * 16_000
        self.event(
            Segment(0, number, start, end, "speech_end", 1.0, shares, {}, quality, ("noisy",))
        )

    def alert(self, state: str, at_ms: int, number: int = 0, **fields: Any) -> None:
        self.add(
            {
                "type": "alert",
                "id": f"alr_0123456789abcdef-{number}.0",
                "state": state,
                "rule": "anger",
                "severity": "warning",
                "text": "indicator: angry at or above 0.5",
                "of": "angry",
                "above": 0.5,
                "peak": at_ms / 10_000,
                "since_ms": 1_000,
                "audio_ms": at_ms,
                "role": "customer",
                **fields,
            }
        )

    def close(self, reason: str = "completed", scores: dict[str, float] | None = None) -> None:
        side = {"channel": 0, "role": "customer", "scores": SHARES if scores is None else scores}
        self.add(
            {
                "type": "session.closed",
                "reason": reason,
                "totals": {"audio_ms": 30_000, "speech_ms": 8_000},
                "summary": [{**side, "activation": 0.75, "speech_ms": 8_000, "utterances": 2}],
            }
        )

    def record(self) -> SessionRecord:
        data = self.collector.record()
        assert data is not None
        return decode(data)


def test_a_call_becomes_a_record() -> None:
    call = Call()
    call.say(0, 1, 5, SHARES)
    call.say(1, 6, 10, {})
    call.event(Gap(0, 160_000, 192_000, 24_000, "overload"))
    call.close()
    record = call.record()
    assert (record.uid, record.kind, record.node) == ("uid-1", "live", "node-1")
    assert (record.model, record.model_license) == ("sample", "Apache-2.0")
    assert (record.duration_s, record.speech_s, record.reason) == (30.0, 8.0, "completed")
    assert (record.labels, record.dominant, record.activation) == (SHARES, "angry", 0.75)
    assert (record.tags, record.roles) == (["queue:a"], ["customer", "agent"])
    assert record.started_ms == 1_700_000_000_000
    first, second = record.utterances
    assert (first.position, first.start_ms, first.end_ms) == (0, 1_000, 5_000)
    assert (first.scores, first.activation, first.hints) == (SHARES, 0.75, ["noisy"])
    assert (second.scores, second.activation) == ({}, None)
    assert record.gaps[0].missing_ms == 1_500


def test_the_weight_of_the_baseline_is_kept() -> None:
    import numpy as np

    call = Call()
    use = BaselineUse(20.0, 0.3, np.zeros(3, np.float32), SHARES, None)
    quality = Quality(-20.0, 0.0, None, "wide", 2.5)
    call.event(Segment(0, 0, 0, 16_000, "flush", 1.0, SHARES, {}, quality, (), baseline=use))
    assert call.record().utterances[0].baseline_weight == 0.3


def test_an_alert_is_one_row_with_its_peak_and_its_end() -> None:
    call = Call()
    call.alert("new", 6_000, evidence={"scores": SHARES, "utterance": 0})
    call.alert("update", 7_000)
    seen = {"by": "anna", "at": "2026-11-28T10:00:00.500Z"}
    call.alert("end", 8_000, reason="cleared", acknowledged=seen)
    call.alert("new", 9_000, number=1)
    call.close()
    ended, still_open = call.record().alerts
    assert (ended.started_ms, ended.ended_ms, ended.role) == (1_000, 8_000, "customer")
    assert ended.evidence["peak"] == 0.8
    assert (ended.evidence["reason"], ended.evidence["scores"]) == ("cleared", SHARES)
    assert (ended.acknowledged_by, ended.acknowledged_ms) == ("anna", 1_795_860_000_500)
    assert (still_open.ended_ms, still_open.acknowledged_by) == (None, None)


def test_the_speaker_who_objected_is_not_kept() -> None:
    """An objection ends the session with its scores withheld; a record would keep those of the
    utterances before it."""
    call = Call()
    call.say(0, 1, 5, SHARES)
    call.close("objected", {})
    assert call.collector.record() is None


def test_a_stream_without_audio_is_not_a_call() -> None:
    assert Call().collector.record() is None


def test_a_call_that_was_cut_off_has_the_totals_of_its_utterances() -> None:
    call = Call()
    call.say(0, 1, 5, SHARES)
    call.say(1, 6, 7, {"angry": 0.0, "happy": 0.0, "neutral": 1.0})
    record = call.record()
    assert (record.reason, record.duration_s, record.speech_s) == ("interrupted", 7.0, 5.0)
    assert record.labels == {"angry": 0.4, "happy": 0.2, "neutral": 0.4}
    assert record.activation == 0.6


def test_ids_and_attributes_are_hashed_as_privacy_demands() -> None:
    """The id of a call is often a telephone number."""
    shown = Call()
    shown.say(0, 1, 5, SHARES)
    record = shown.record()
    assert record.stream_id == "+49 30 1234"
    assert record.attributes == {"customer": "4711", "vip": "true"}
    hidden = Call(b"key")
    hidden.say(0, 1, 5, SHARES)
    data = hidden.collector.record()
    assert data is not None
    assert b"1234" not in data
    assert b"4711" not in data
    assert decode(data).stream_id == Identities(b"key").stream("default", "+49 30 1234")
    other = Call(b"key", tenant="acme")
    other.say(0, 1, 5, SHARES)
    assert other.record().stream_id != decode(data).stream_id


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\x1b[31m"])
def test_ids_that_no_database_takes_are_escaped(text: str) -> None:
    call = Call(stream_id=text, attrs={text: text})
    call.say(0, 1, 5, SHARES)
    record = call.record()
    assert record.stream_id.isprintable()
    assert all(
        name.isprintable() and value.isprintable() for name, value in record.attributes.items()
    )


def test_a_collector_is_bounded_and_says_what_it_left_out() -> None:
    call = Call()
    call.say(0, 1, 5, SHARES)
    size = call.collector.size
    assert 100 < size < 400
    call.add(dict(call._bodies.body(Gap(0, 0, 16_000, 16_000, "overload"))), room=50)
    for number in range(MAX_ALERTS + 3):
        call.alert("new", 2_000, number=number)
    call.close()
    record = call.record()
    assert record.detail["left_out"] == 4
    assert (len(record.utterances), len(record.gaps)) == (1, 0)
    assert len(record.alerts) == MAX_ALERTS


def test_no_audio_words_or_features_are_kept() -> None:
    """Events may carry embeddings and frames; a record that copied events would keep them."""
    call = Call()
    call.add(
        {
            **AnalysisEvents(call.live.roles, MODEL).body(
                Segment(
                    0, 0, 0, 16_000, "flush", 1.0, SHARES, {}, Quality(-20, 0, None, None, 1), ()
                )
            ),
            "embedding": {"dtype": "float16", "shape": [1], "data": "SECRET"},
            "transcript": "SECRET",
        }
    )
    call.close()
    data = call.collector.record()
    assert data is not None
    assert b"SECRET" not in data
    assert orjson.loads(data)["utterances"][0].keys() == {
        *("channel", "position", "start_ms", "end_ms", "scores", "activation", "hints"),
        "baseline_weight",
    }
