"""Server messages of `emotide.v1`: what a pipeline tells, as JSON bodies. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stream.labels import activation, top
from stream.protocol.parsing import VERSION
from stream.types import (
    Body,
    Event,
    Gap,
    ModelInfo,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    UtteranceFrames,
    timestamp,
    to_ms,
)

SCORE = "emotion.score"
SEGMENT = "emotion.segment"


@dataclass(frozen=True, slots=True)
class EventEncoder:
    """How one stream's events are worded: its channels' roles, its model, the labels asked for."""

    roles: Sequence[str]
    model: ModelInfo
    labels: frozenset[str] = frozenset()

    def body(self, event: Event, latency_ms: int | None = None) -> Body:
        """The fields of `event` besides the common ones; positions become milliseconds."""
        head: Body = {"channel": event.channel, "role": self.roles[event.channel]}
        said: Body
        match event:
            case SpeechStart():
                said = {"utterance": event.utterance, "audio_ms": to_ms(event.at)}
                return {"type": "speech.start", **head, **said}
            case SpeechEnd():
                said = {
                    "utterance": event.utterance,
                    "audio_ms": to_ms(event.at),
                    "audio_start_ms": to_ms(max(0, event.start)),
                    "trigger": event.trigger,
                }
                return {"type": "speech.end", **head, **said}
            case Gap():
                said = {
                    "audio_ms": to_ms(event.start),
                    "audio_end_ms": to_ms(event.end),
                    "missing_ms": to_ms(event.speech),
                    "reason": event.reason,
                }
                return {"type": "stream.gap", **head, **said}
            case Score():
                body = {
                    **head,
                    **self._emotion(event),
                    "speech_ratio": event.speech_ratio,
                }
                if event.frames is not None:
                    body["frames"] = {
                        "start_ms": to_ms(event.frames.start),
                        "hop_ms": to_ms(event.frames.hop),
                        "labels": list(self.model.labels),
                        "posteriors": event.frames.posteriors.astype(float).round(4).tolist(),
                    }
                    if event.frames.features is not None:
                        body["frames"]["embeddings"] = packed(event.frames.features)
                if latency_ms is not None:
                    body["latency_ms"] = latency_ms
                return {"type": SCORE, **body}
            case Segment():
                said = {"covered": event.covered}
                if event.embedding is not None:
                    said["embedding"] = packed(event.embedding)
                return {"type": SEGMENT, **head, **self._emotion(event), **said}

    def utterance(self, channel: int, frames: UtteranceFrames) -> Body:
        """A channel's newest utterance frame by frame, as `/v1/streams/{id}/frames` shows it."""
        return {
            "channel": channel,
            "role": self.roles[channel],
            "utterance": frames.utterance,
            "hop_ms": to_ms(self.model.frame_hop),
            "labels": list(self.model.labels),
            "start_ms": [to_ms(start) for start in frames.starts.tolist()],
            "posteriors": frames.posteriors.astype(float).round(4).tolist(),
        }

    def named(self, scores: Mapping[str, float]) -> Mapping[str, float]:
        """The labels asked for, or all."""
        if not self.labels:
            return scores
        return {label: share for label, share in scores.items() if label in self.labels}

    def _emotion(self, event: Score | Segment) -> Body:
        return {
            "trigger": event.trigger,
            "utterance": event.utterance,
            "audio_start_ms": to_ms(max(0, event.start)),
            "audio_end_ms": to_ms(event.end),
            "scores": self.named(event.scores),
            "rolling": {name: self.named(scores) for name, scores in event.rolling.items()},
            "top": top(event.scores),
            "activation": activation(event.scores),
            "quality": asdict(event.quality),
            "hints": list(event.hints),
            "model": {"id": self.model.id, "revision": self.model.revision},
        }


def packed(array: NDArray[np.float32]) -> Body:
    """An array as little-endian float16 in base64, with its shape: a fifth of it as numbers."""
    data = base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
    return {"dtype": "float16", "shape": list(array.shape), "data": data}


def model_body(model: ModelInfo) -> Body:
    """What users are told of a model."""
    return {
        "id": model.id,
        "revision": model.revision,
        "labels": list(model.labels),
        "missing_labels": list(model.missing_labels),
        "licence": model.licence,
        "device": model.device,
        "why": model.why,
        "embedding_dim": model.dim,
    }


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """One event of one stream, encoded once for everybody who gets it.

    `data` is the JSON object; `body` the same as a dict, for who looks inside.
    """

    seq: int
    body: Mapping[str, Any]
    data: bytes

    @property
    def type(self) -> str:
        return str(self.body["type"])

    def tagged(self, sub: str) -> bytes:
        """The same object with the subscription's id, without encoding it again."""
        return self.data[:-1] + b',"sub":' + orjson.dumps(sub) + b"}"


def encode(body: Body, seq: int, session_id: str, stream_id: str, now: float) -> EncodedEvent:
    """Add the common fields and encode."""
    whole = {
        "type": body["type"],
        "v": VERSION,
        "seq": seq,
        "session_id": session_id,
        "stream_id": stream_id,
        "ts": timestamp(now),
        **body,
    }
    # orjson leaves its buffer at several times the length; what is kept is copied to size.
    return EncodedEvent(seq, whole, bytes(memoryview(orjson.dumps(whole))))
