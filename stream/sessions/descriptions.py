"""Bodies of session events: default and effective settings, acknowledgements, totals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stream.admission import Admission, analysis_settings
from stream.analysis.pipeline import StreamPipeline
from stream.config import Config, LimitsConfig
from stream.labels import activation, top
from stream.protocol.events import AnalysisEvents, model_body
from stream.protocol.messages import Audio, SessionAnnotate, SessionConfig
from stream.protocol.wire import session, settings
from stream.protocol.wire.codes import ClosedReason
from stream.sessions.conversation import measured
from stream.types import ModelInfo, to_ms


@dataclass(slots=True)
class Totals:
    """Number of scores and segments of a stream."""

    scores: int = 0
    segments: int = 0


def default_session(config: Config, model: ModelInfo) -> settings.SessionDefaults:
    """Return the default audio and analysis settings."""
    audio = Audio()
    windows = analysis_settings(config, model).windows
    return {
        "audio": _audio(audio, audio.roles),
        "analysis": {
            "interval_ms": to_ms(windows.hop),
            "window_ms": to_ms(windows.longest),
            "model": model_body(model),
        },
    }


def producer_limits(limits: LimitsConfig) -> settings.ProducerLimits:
    """Return the limits that a producer has to observe."""
    return {
        "max_message_bytes": limits.max_message_bytes,
        "max_frame_ms": limits.max_frame_ms,
        "idle_timeout_s": limits.idle_timeout_s,
        "max_session_s": limits.max_session_s,
        "resume_s": limits.resume_s,
    }


def session_announced(
    event_type: Literal["session.created", "session.updated"],
    effective: settings.Session,
    config: Config,
    resume_token: str,
) -> session.SessionCreatedBody | session.SessionUpdatedBody:
    """Return the body of the event that announces a session with its effective settings."""
    limits = producer_limits(config.limits)
    if event_type == "session.created":
        return {
            "type": "session.created",
            "session": effective,
            "limits": limits,
            "resume_token": resume_token,
            "node": config.server.name,
        }
    return {
        "type": "session.updated",
        "session": effective,
        "limits": limits,
        "resume_token": resume_token,
        "node": config.server.name,
    }


def session_annotated(audio_ms: int, note: SessionAnnotate) -> session.SessionAnnotatedBody:
    """Return the body of `session.annotated`; empty fields are absent."""
    body: session.SessionAnnotatedBody = {"type": "session.annotated", "audio_ms": audio_ms}
    if note.attrs:
        body["attrs"] = note.attrs
    if note.dtmf is not None:
        body["dtmf"] = note.dtmf
    if note.mark is not None:
        body["mark"] = note.mark
    return body


def audio_ack(
    received_ms: int, received_samples: int, processed: int, lost: int
) -> session.AudioAckBody:
    """Return the body of `audio.ack`.

    `received_samples` is per channel at the producer's rate. `processed` is the position up to
    which all speech was scored or lost, `lost` the speech reported as lost; both in samples at
    16 kHz.
    """
    return {
        "type": "audio.ack",
        "received_ms": received_ms,
        "received_samples": received_samples,
        "processed_ms": to_ms(processed),
        "dropped_ms": to_ms(lost),
    }


def effective_session(
    config: Config,
    request: SessionConfig,
    grant: Admission,
    model: ModelInfo,
    bodies: AnalysisEvents,
) -> settings.Session:
    """Return the settings of a session as they were granted."""
    windows = grant.settings.windows
    return {
        "audio": _audio(request.audio, grant.roles),
        "analysis": {
            "interval_ms": to_ms(windows.hop),
            "window_ms": to_ms(windows.longest),
            "labels": [*bodies.selected(dict.fromkeys(model.labels, 0.0))],
            "analyse_channels": list(grant.analysed),
            "activity_channels": list(grant.observed) if len(grant.observed) > 1 else [],
            "frames": request.analysis.frames,
            "embeddings": request.analysis.embeddings,
            "baseline": grant.settings.baseline is not None,
            "horizons_s": list(config.rolling.horizons_s),
            "model": model_body(model),
        },
        "tags": list(request.tags),
        "consent": {"basis": request.consent.basis, "disclosed": request.consent.disclosed},
        "publish": {"mqtt": request.publish.mqtt},
        "results": request.results,
    }


def _audio(audio: Audio, roles: Sequence[str]) -> settings.AudioSettings:
    return {
        "encoding": audio.encoding,
        "sample_rate": audio.sample_rate,
        "channels": audio.channels,
        "roles": list(roles),
    }


def session_closed(
    reason: ClosedReason,
    pipeline: StreamPipeline,
    totals: Totals,
    roles: Sequence[str],
    bodies: AnalysisEvents,
) -> session.SessionClosedBody:
    """Return the body of `session.closed`: totals, and a summary per analysed channel.

    After an objection the summary has no scores, and there is no conversation.
    """
    summary: list[session.ChannelSummary] = []
    for number, channel in pipeline.channels.items():
        scores = {} if reason == "objected" else channel.scores.summary()
        summary.append(
            {
                "channel": number,
                "role": roles[number],
                "scores": bodies.selected(scores),
                "top": top(scores),
                "activation": activation(scores),
                "speech_ms": to_ms(channel.speech),
                "utterances": channel.utterances,
            }
        )
    body: session.SessionClosedBody = {
        "type": "session.closed",
        "reason": reason,
        "totals": {
            "audio_ms": to_ms(pipeline.position),
            "speech_ms": to_ms(sum(c.speech for c in pipeline.channels.values())),
            "scores": totals.scores,
            "segments": totals.segments,
            "dropped_ms": to_ms(pipeline.lost),
        },
        "summary": summary,
    }
    if pipeline.conversation is not None and reason != "objected":
        body["conversation"] = measured(pipeline.conversation.report(), roles)
    return body
