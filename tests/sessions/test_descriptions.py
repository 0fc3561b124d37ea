"""Bodies of session events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.admission import admit
from stream.analysis.pipeline import StreamPipeline
from stream.config import Config
from stream.protocol.events import AnalysisEvents
from stream.protocol.messages import SessionConfig
from stream.protocol.wire.codes import ClosedReason
from stream.protocol.wire.settings import Session
from stream.sessions.descriptions import (
    Totals,
    audio_ack,
    default_session,
    effective_session,
    producer_limits,
    session_closed,
)
from tests.support.plugins import Fast

CONFIG = Config()
MODEL = Fast().info


def effective(**session: object) -> Session:
    request = SessionConfig.model_validate(session)
    grant = admit(CONFIG, request, MODEL)
    bodies = AnalysisEvents(grant.roles, MODEL, frozenset(request.analysis.labels))
    return effective_session(CONFIG, request, grant, MODEL, bodies)


def pipeline_of(request: SessionConfig) -> StreamPipeline:
    grant = admit(CONFIG, request, MODEL)
    return StreamPipeline(request.format, grant.analysed, MODEL, grant.settings)


def test_the_default_session_is_the_effective_one_of_an_empty_request() -> None:
    default, session = default_session(CONFIG, MODEL), effective()
    assert default["audio"]["sample_rate"] == session["audio"]["sample_rate"] == 16_000
    assert default["audio"]["encoding"] == session["audio"]["encoding"] == "linear16"
    for key in ("interval_ms", "window_ms", "model"):
        assert default["analysis"][key] == session["analysis"][key]


def test_the_effective_session_has_the_granted_settings() -> None:
    session = effective(
        audio={"channels": 2, "sample_rate": 8000, "encoding": "mulaw"},
        analysis={"interval_ms": 500, "window_ms": 2000, "labels": ["sad"], "frames": True},
        tags=["queue:a"],
        results=False,
    )
    assert session["audio"]["roles"] == ["customer", "agent"], "default roles of two channels"
    analysis = session["analysis"]
    assert analysis["analyse_channels"] == [0], "the agent is not analysed by default"
    assert (analysis["interval_ms"], analysis["window_ms"]) == (500, 2000)
    assert (analysis["labels"], analysis["frames"]) == (["sad"], True)
    assert analysis["horizons_s"] == [10, 30]
    assert (session["tags"], session["results"]) == (["queue:a"], False)


def test_the_reference_of_a_consent_is_not_sent() -> None:
    """It is for the audit log; subscribers receive `session.created` too."""
    consent = effective(consent={"basis": "contract", "disclosed": True, "ref": "c-17"})["consent"]
    assert consent == {"basis": "contract", "disclosed": True}


def test_a_producer_gets_only_the_limits_that_concern_it() -> None:
    limits = producer_limits(CONFIG.limits)
    assert limits == {
        "max_message_bytes": 1_048_576,
        "max_frame_ms": 10_000,
        "idle_timeout_s": 30.0,
        "max_session_s": 14_400.0,
        "resume_s": 60.0,
    }


def test_an_ack_has_samples_at_the_rate_of_the_producer() -> None:
    ack = audio_ack(1000, received_samples=8000, processed=8_000, lost=1_600)
    assert ack == {
        "type": "audio.ack",
        "received_ms": 1000,
        "received_samples": 8000,
        "processed_ms": 500,
        "dropped_ms": 100,
    }


@pytest.mark.parametrize("reason", ["completed", "objected"])
def test_the_summary_of_a_silent_stream_has_no_scores(reason: ClosedReason) -> None:
    request = SessionConfig.model_validate({"audio": {"channels": 2}})
    pipeline = pipeline_of(request)
    list(pipeline.feed(bytes(4 * 16_000)))
    body = session_closed(
        reason, pipeline, Totals(2, 1), ("customer", "agent"), AnalysisEvents(("customer",), MODEL)
    )
    assert (body["type"], body["reason"]) == ("session.closed", reason)
    assert body["totals"] == {
        "audio_ms": 1000,
        "speech_ms": 0,
        "scores": 2,
        "segments": 1,
        "dropped_ms": 0,
    }
    [summary] = body["summary"]
    assert (summary["channel"], summary["role"]) == (0, "customer")
    assert (summary["scores"], summary["top"], summary["speech_ms"]) == ({}, None, 0)


@pytest.mark.parametrize("reason", ["completed", "objected"])
def test_after_an_objection_the_summary_has_no_scores(
    reason: ClosedReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_of(SessionConfig())
    channel = pipeline.channels[0]
    scores = {"angry": 0.6, "happy": 0.1, "neutral": 0.2, "sad": 0.1}
    monkeypatch.setattr(channel.scores, "summary", lambda: scores)
    channel._ended_samples, channel.utterances = 32_000, 3
    bodies = AnalysisEvents(("speaker",), MODEL, frozenset({"angry", "sad"}))
    body = session_closed(reason, pipeline, Totals(), ("speaker",), bodies)
    [summary] = body["summary"]
    assert (summary["speech_ms"], summary["utterances"]) == (2000, 3)
    if reason == "objected":
        assert (summary["scores"], summary["top"], summary["activation"]) == ({}, None, None)
    else:
        assert summary["scores"] == {"angry": 0.6, "sad": 0.1}, "only the requested labels"
        assert summary["top"] == {"label": "angry", "score": 0.6}
        assert summary["activation"] == pytest.approx(0.7, abs=1e-3)


def test_a_model_without_embeddings_is_described_with_dim_0() -> None:
    model = replace(MODEL, dim=0)
    assert default_session(CONFIG, model)["analysis"]["model"]["embedding_dim"] == 0
