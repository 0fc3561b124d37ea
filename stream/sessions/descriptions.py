"""What a session says of itself: what is offered, what is in force, what it came to. Pure."""

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
    """What a stream came to."""

    scores: int = 0
    segments: int = 0


def offered(config: Config, model: ModelInfo) -> Body:
    """What holds for a producer that says nothing of it."""
    return {
        "audio": SessionConfig().audio.model_dump(mode="json"),
        "analysis": {
            "interval_ms": config.windows.hop_ms,
            "window_ms": config.windows.lengths_ms[-1],
            "model": model_body(model),
        },
    }


def bounds(limits: LimitsConfig) -> Body:
    """What a producer has to keep to."""
    return {
        "max_message_bytes": limits.max_message_bytes,
        "max_frame_ms": limits.max_frame_ms,
        "idle_timeout_s": limits.idle_timeout_s,
        "max_session_s": limits.max_session_s,
        "resume_s": limits.resume_s,
    }


def acknowledged(pipeline: StreamPipeline, processed: int) -> Body:
    """How far audio was received, and up to where (in samples at 16 kHz) it was scored or lost."""
    return {
        "type": "audio.ack",
        "received_ms": to_ms(pipeline.position),
        "received_samples": pipeline.received,
        "processed_ms": to_ms(processed),
        "dropped_ms": to_ms(pipeline.lost),
    }


def in_force(
    config: Config,
    wanted: SessionConfig,
    admitted: Admission,
    model: ModelInfo,
    encoder: EventEncoder,
) -> Body:
    """A session as it was granted."""
    windows = admitted.settings.windows
    return {
        "audio": {**wanted.audio.model_dump(mode="json"), "roles": list(admitted.roles)},
        "analysis": {
            "interval_ms": to_ms(windows.hop),
            "window_ms": to_ms(windows.longest),
            "labels": [*encoder.named(dict.fromkeys(model.labels, 0.0))],
            "analyse_channels": list(admitted.analysed),
            "frames": wanted.analysis.frames,
            "embeddings": wanted.analysis.embeddings,
            "horizons_s": list(config.rolling.horizons_s),
            "model": model_body(model),
        },
        "tags": list(wanted.tags),
        "consent": wanted.consent.model_dump(mode="json", exclude={"ref"}),
        "publish": wanted.publish.model_dump(mode="json"),
        "results": wanted.results,
    }


def closing(
    reason: str,
    pipeline: StreamPipeline,
    totals: Totals,
    roles: Sequence[str],
    encoder: EventEncoder,
) -> Body:
    """The end of a session: totals, and a summary per channel, empty after an objection."""
    summary: list[Body] = []
    for number, channel in pipeline.channels.items():
        scores = {} if reason == "objected" else channel.summary()
        summary.append(
            {
                "channel": number,
                "role": roles[number],
                "scores": encoder.named(scores),
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
