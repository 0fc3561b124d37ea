"""Events: positions as milliseconds, the requested labels, encoded once."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.labels import top
from stream.protocol.events import (
    AnalysisEvents,
    EventEncoder,
    baseline_body,
    encode,
    model_body,
    quality_body,
)
from stream.types import (
    BaselineUse,
    Event,
    FramePosteriors,
    Gap,
    Quality,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    timestamp,
)
from tests.support.signals import model

S = 16_000
MODEL = model(labels=("angry", "happy", "sad"))
QUALITY = Quality(rms_dbfs=-21.5, clipped=0.0, snr_db=None, band="wide", speech_s=1.5)
SHARES = {"angry": 0.5, "happy": 0.3, "sad": 0.2}
BODIES = AnalysisEvents(("customer", "agent"), MODEL)


def score(channel: int = 0, frames: FramePosteriors | None = None) -> Score:
    return Score(
        channel, 4, -S, 2 * S, "interval", 0.75, SHARES, {"10s": SHARES, "call": SHARES}, QUALITY,
        ("short_speech",), frames,
    )  # fmt: skip


def segment(scores: dict[str, float]) -> Segment:
    return Segment(
        1, 4, S // 2, 2 * S + 8, "split", 0.5, scores, {"call": SHARES}, QUALITY, ("noisy",)
    )


def body_of(event: Event, latency_ms: int = 0) -> Any:
    """Return the body of an event; its type is left to the test."""
    return BODIES.body(event, latency_ms)


def test_speech_begins_and_ends_in_milliseconds_with_its_role() -> None:
    assert body_of(SpeechStart(0, 3, 4808)) == {
        "type": "speech.start",
        "channel": 0,
        "role": "customer",
        "utterance": 3,
        "audio_ms": 300,
    }
    assert body_of(SpeechEnd(1, 3, 4800, 20_000, "flush")) == {
        "type": "speech.end",
        "channel": 1,
        "role": "agent",
        "utterance": 3,
        "audio_ms": 1250,
        "audio_start_ms": 300,
        "trigger": "flush",
    }


def test_a_gap_has_position_amount_and_reason() -> None:
    assert body_of(Gap(0, S, 4 * S, 2 * S, "overload")) == {
        "type": "stream.gap",
        "channel": 0,
        "role": "customer",
        "audio_ms": 1000,
        "audio_end_ms": 4000,
        "missing_ms": 2000,
        "reason": "overload",
    }


def test_a_score_has_all_its_fields() -> None:
    assert body_of(score(), latency_ms=42) == {
        "type": "emotion.score",
        "channel": 0,
        "role": "customer",
        "trigger": "interval",
        "utterance": 4,
        "audio_start_ms": 0,  # mirrored audio before the stream does not count
        "audio_end_ms": 2000,
        "scores": SHARES,
        "rolling": {"10s": SHARES, "call": SHARES},
        "top": {"label": "angry", "score": 0.5},
        "activation": 0.8,
        "quality": {
            "rms_dbfs": -21.5,
            "clipped": 0.0,
            "snr_db": None,
            "band": "wide",
            "speech_s": 1.5,
            "sound": None,
        },
        "hints": ["short_speech"],
        "model": {"id": "tone", "revision": "1"},
        "speech_ratio": 0.75,
        "latency_ms": 42,
    }


def test_the_quality_has_all_measurements_in_their_order() -> None:
    sent, measured = quality_body(QUALITY), asdict(QUALITY)
    assert sent == measured
    assert [*sent] == [*measured]


def test_the_fields_of_a_score_keep_their_order() -> None:
    """Readers of raw text, such as logs and diffs, see the fields in one order."""
    posteriors = np.ones((1, 3), np.float32)
    body = body_of(score(frames=FramePosteriors(S, 320, posteriors)), latency_ms=42)
    assert [*body] == [
        "type",
        "channel",
        "role",
        "trigger",
        "utterance",
        "audio_start_ms",
        "audio_end_ms",
        "scores",
        "rolling",
        "top",
        "activation",
        "quality",
        "hints",
        "model",
        "speech_ratio",
        "frames",
        "latency_ms",
    ]


def test_a_segment_that_was_never_scored_has_no_top() -> None:
    body = body_of(segment({}))
    assert body["type"] == "emotion.segment"
    assert body["role"] == "agent"
    assert (body["scores"], body["top"], body["covered"]) == ({}, None, 0.5)
    assert (body["audio_start_ms"], body["audio_end_ms"]) == (500, 2000)


def test_embeddings_are_sent_as_float16_in_base64() -> None:
    mean = np.array([0.5, -2.25, 1e-3], np.float32)
    features = np.stack([mean, -mean])
    frames = FramePosteriors(S, 320, np.ones((2, 3), np.float32), features)
    sent = body_of(score(frames=frames))["frames"]["embeddings"]
    own = body_of(replace(segment(SHARES), embedding=mean))["embedding"]
    for packed, expected in ((sent, features), (own, mean)):
        assert packed["dtype"] == "float16"
        values = np.frombuffer(base64.b64decode(packed["data"]), "<f2").reshape(packed["shape"])
        np.testing.assert_allclose(values, expected, rtol=1e-3)
    assert "embedding" not in body_of(segment(SHARES))


def test_frames_have_positions_and_labels() -> None:
    posteriors = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    frames = body_of(score(frames=FramePosteriors(S, 320, posteriors)))["frames"]
    assert frames == {
        "start_ms": 1000,
        "hop_ms": 20,
        "labels": ["angry", "happy", "sad"],
        "posteriors": [[0.25, 0.5, 0.25], [1, 0, 0]],
    }


def test_only_requested_labels_are_sent_and_the_top_is_that_of_all_labels() -> None:
    body: Any = AnalysisEvents(("customer",), MODEL, frozenset({"sad"})).body(score())
    assert body["scores"] == {"sad": 0.2}
    assert body["rolling"] == {"10s": {"sad": 0.2}, "call": {"sad": 0.2}}
    assert body["top"] == {"label": "angry", "score": 0.5}


def test_no_scores_have_no_top() -> None:
    assert top({}) is None
    assert top({"a": 0.1, "b": 0.6, "c": 0.3}) == {"label": "b", "score": 0.6}


def test_time_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"


def test_the_description_of_a_model_says_why_it_was_chosen() -> None:
    body = model_body(MODEL)
    assert body["labels"] == ["angry", "happy", "sad"]
    assert (body["licence"], body["device"], body["why"]) == (
        "Apache-2.0",
        "cpu",
        "it is deterministic",
    )
    json.dumps(body)


def test_an_encoded_event_has_the_common_fields_first() -> None:
    event = encode({"type": "warning", "code": "x"}, 7, "sess_1", "call-1", 0.0)
    assert list(event.body) == ["type", "v", "seq", "session_id", "stream_id", "ts", "code"]
    assert event.type == "warning"
    assert event.seq == event.body["seq"] == 7
    assert orjson.loads(event.data) == event.body


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(0, 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    values,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
)
def test_tagging_is_the_same_as_encoding_again(extra: object, sub: str) -> None:
    """Subscription ids are free text: a quote in an id must not break the JSON that holds it."""
    event = encode({"type": "x", "extra": extra}, 1, "s", "t", 1.0)
    assert event.tagged({"sub": sub}) == orjson.dumps({**event.body, "sub": sub})


@pytest.mark.parametrize("event", [score(), segment(SHARES), Gap(0, 0, S, S, "overload")])
def test_every_event_can_be_encoded(event: Score | Segment | Gap) -> None:
    encoded = encode(body_of(event), 1, "s", "t", 1.0)
    assert json.loads(encoded.data) == json.loads(json.dumps(encoded.body))


def test_posteriors_have_four_digits() -> None:
    posteriors = np.array([[0.12344, 0.12346, 0.7531]], np.float32)
    frames = body_of(score(frames=FramePosteriors(S, 320, posteriors)))["frames"]
    assert frames["posteriors"] == [[0.1234, 0.1235, 0.7531]]


@pytest.mark.parametrize(
    ("usual", "scores", "change"),
    [
        (0.25, {"angry": 0.5, "happy": 0.25, "sad": 0.25}, 0.5),
        (None, {"angry": 0.5, "happy": 0.25, "sad": 0.25}, None),
        (0.25, {}, None),
    ],
)
def test_a_baseline_states_the_change_from_the_usual_activation(
    usual: float | None, scores: dict[str, float], change: float | None
) -> None:
    use = BaselineUse(20.0, 0.5, np.zeros(3, np.float32), scores, usual)
    body = baseline_body(use, scores)
    assert body["activation"] == (0.75 if scores else None)
    assert body["activation_change"] == change
    assert (body["speech_s"], body["weight"], body["scores"]) == (20.0, 0.5, scores)


def test_events_of_a_stream_are_numbered_from_0() -> None:
    encoder = EventEncoder("ses_1", "call")
    events = [encoder.encode({"type": "stream.paused", "audio_ms": 0}) for _ in range(3)]
    assert [event.seq for event in events] == [0, 1, 2]
    bare = events[2].bare()
    assert bare.body == events[2].body
    assert bare.body is bare.body, "decoded once"
    kept = encoder.without(events[2], ("audio_ms",))
    assert kept.seq == 2
    assert set(kept.body) == set(events[2].body) - {"audio_ms"}
