"""What a session says of itself: what is in force, and what it came to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream.config import Config
from stream.events import Body, Voice, model_body, top
from stream.messages import SessionConfig
from stream.pipeline import StreamPipeline
from stream.policy import Admission
from stream.rolling import activation
from stream.types import ModelInfo, to_ms


@dataclass(slots=True)
class Totals:
    """What a stream came to."""

    scores: int = 0
    segments: int = 0


def in_force(
    config: Config, wanted: SessionConfig, admitted: Admission, model: ModelInfo, voice: Voice
) -> Body:
    """A session as it was granted."""
    windows = admitted.settings.windows
    return {
        "audio": {**wanted.audio.model_dump(mode="json"), "roles": list(admitted.roles)},
        "analysis": {
            "interval_ms": to_ms(windows.hop),
            "window_ms": to_ms(windows.longest),
            "labels": [*voice.named(dict.fromkeys(model.labels, 0.0))],
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
    reason: str, pipeline: StreamPipeline, totals: Totals, roles: Sequence[str], voice: Voice
) -> Body:
    """The end of a session: totals, and a summary per channel, empty after an objection."""
    summary: list[Body] = []
    for number, channel in pipeline.channels.items():
        scores = {} if reason == "objected" else channel.summary()
        summary.append(
            {
                "channel": number,
                "role": roles[number],
                "scores": voice.named(scores),
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
