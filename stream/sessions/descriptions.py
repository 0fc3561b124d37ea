"""Bodies of session events: default and effective settings, acknowledgements, totals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream.admission import Admission
from stream.analysis.pipeline import StreamPipeline
from stream.config import Config, LimitsConfig
from stream.labels import activation, top
from stream.protocol.events import EventEncoder, model_body
from stream.protocol.messages import SessionConfig
from stream.types import Body, ModelInfo, to_ms


@dataclass(slots=True)
class Totals:
    """Number of scores and segments of a stream."""

    scores: int = 0
    segments: int = 0


def default_session(config: Config, model: ModelInfo) -> Body:
    """Return the default audio and analysis settings."""
    return {
        "audio": SessionConfig().audio.model_dump(mode="json"),
        "analysis": {
            "interval_ms": config.windows.hop_ms,
            "window_ms": config.windows.lengths_ms[-1],
            "model": model_body(model),
        },
    }


def producer_limits(limits: LimitsConfig) -> Body:
    """Return the limits that a producer has to observe."""
    return {
        "max_message_bytes": limits.max_message_bytes,
        "max_frame_ms": limits.max_frame_ms,
        "idle_timeout_s": limits.idle_timeout_s,
        "max_session_s": limits.max_session_s,
        "resume_s": limits.resume_s,
    }


def audio_ack(pipeline: StreamPipeline, processed: int) -> Body:
    """Return the body of `audio.ack`.

    `processed` is the position, in samples at 16 kHz, up to which all speech was scored or lost.
    """
    return {
        "type": "audio.ack",
        "received_ms": to_ms(pipeline.position),
        "received_samples": pipeline.received,
        "processed_ms": to_ms(processed),
        "dropped_ms": to_ms(pipeline.lost),
    }


def effective_session(
    config: Config,
    request: SessionConfig,
    grant: Admission,
    model: ModelInfo,
    encoder: EventEncoder,
) -> Body:
    """Return the settings of a session as they were granted."""
    windows = grant.settings.windows
    return {
        "audio": {**request.audio.model_dump(mode="json"), "roles": list(grant.roles)},
        "analysis": {
            "interval_ms": to_ms(windows.hop),
            "window_ms": to_ms(windows.longest),
            "labels": [*encoder.selected(dict.fromkeys(model.labels, 0.0))],
            "analyse_channels": list(grant.analysed),
            "frames": request.analysis.frames,
            "embeddings": request.analysis.embeddings,
            "horizons_s": list(config.rolling.horizons_s),
            "model": model_body(model),
        },
        "tags": list(request.tags),
        "consent": request.consent.model_dump(mode="json", exclude={"ref"}),
        "publish": request.publish.model_dump(mode="json"),
        "results": request.results,
    }


def session_closed(
    reason: str,
    pipeline: StreamPipeline,
    totals: Totals,
    roles: Sequence[str],
    encoder: EventEncoder,
) -> Body:
    """Return the body of `session.closed`: totals, and a summary per analysed channel.

    After an objection the summary has no scores.
    """
    summary: list[Body] = []
    for number, channel in pipeline.channels.items():
        scores = {} if reason == "objected" else channel.summary()
        summary.append(
            {
                "channel": number,
                "role": roles[number],
                "scores": encoder.selected(scores),
                "top": top(scores),
                "activation": activation(scores),
                "speech_ms": to_ms(channel.speech),
                "utterances": channel.utterances,
            }
        )
    return {
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
