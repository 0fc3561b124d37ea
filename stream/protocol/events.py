"""Events of `emotide.v1`: analysis events as JSON bodies, and their encoding. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stream.labels import activation, top
from stream.protocol.version import VERSION
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
    """Encoder of one stream's events: roles of its channels, its model, the requested labels."""

    roles: Sequence[str]
    model: ModelInfo
    labels: frozenset[str] = frozenset()

    def body(self, event: Event, latency_ms: int | None = None) -> Body:
        """Return the fields of `event` besides the common ones; positions become milliseconds."""
        common: Body = {"channel": event.channel, "role": self.roles[event.channel]}
        fields: Body
        match event:
            case SpeechStart():
                fields = {"utterance": event.utterance, "audio_ms": to_ms(event.at)}
                return {"type": "speech.start", **common, **fields}
            case SpeechEnd():
                fields = {
                    "utterance": event.utterance,
                    "audio_ms": to_ms(event.at),
                    "audio_start_ms": to_ms(max(0, event.start)),
                    "trigger": event.trigger,
                }
                return {"type": "speech.end", **common, **fields}
            case Gap():
                fields = {
                    "audio_ms": to_ms(event.start),
                    "audio_end_ms": to_ms(event.end),
                    "missing_ms": to_ms(event.speech),
                    "reason": event.reason,
                }
                return {"type": "stream.gap", **common, **fields}
            case Score():
                body = {
                    **common,
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
                        body["frames"]["embeddings"] = pack(event.frames.features)
                if latency_ms is not None:
                    body["latency_ms"] = latency_ms
                return {"type": SCORE, **body}
            case Segment():
                fields = {"covered": event.covered}
                if event.embedding is not None:
                    fields["embedding"] = pack(event.embedding)
                return {"type": SEGMENT, **common, **self._emotion(event), **fields}

    def utterance(self, channel: int, frames: UtteranceFrames) -> Body:
        """Return a channel's newest utterance frame by frame, for `/v1/streams/{id}/frames`."""
        return {
            "channel": channel,
            "role": self.roles[channel],
            "utterance": frames.utterance,
            "hop_ms": to_ms(self.model.frame_hop),
            "labels": list(self.model.labels),
            "start_ms": [to_ms(start) for start in frames.starts.tolist()],
            "posteriors": frames.posteriors.astype(float).round(4).tolist(),
        }

    def selected(self, scores: Mapping[str, float]) -> Mapping[str, float]:
        """Return the scores of the requested labels; of all labels if none were requested."""
        if not self.labels:
            return scores
        return {label: share for label, share in scores.items() if label in self.labels}

    def _emotion(self, event: Score | Segment) -> Body:
        return {
            "trigger": event.trigger,
            "utterance": event.utterance,
            "audio_start_ms": to_ms(max(0, event.start)),
            "audio_end_ms": to_ms(event.end),
            "scores": self.selected(event.scores),
            "rolling": {name: self.selected(scores) for name, scores in event.rolling.items()},
            "top": top(event.scores),
            "activation": activation(event.scores),
            "quality": asdict(event.quality),
            "hints": list(event.hints),
            "model": {"id": self.model.id, "revision": self.model.revision},
        }


def pack(array: NDArray[np.float32]) -> Body:
    """Encode an array as little-endian float16 in base64, with its shape.

    It takes a fifth of the space of JSON numbers.
    """
    data = base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
    return {"dtype": "float16", "shape": list(array.shape), "data": data}


def model_body(model: ModelInfo) -> Body:
    """Return the public description of a model."""
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
    """One event of one stream, encoded once for all receivers.

    `data` is the JSON object, `body` the same as a dict, for filters and sinks.
    """

    seq: int
    body: Mapping[str, Any]
    data: bytes

    @property
    def type(self) -> str:
        return str(self.body["type"])

    def tagged(self, sub: str) -> bytes:
        """Return `data` with the subscription's id added, without encoding it again."""
        return self.data[:-1] + b',"sub":' + orjson.dumps(sub) + b"}"


def encode(body: Body, seq: int, session_id: str, stream_id: str, now: float) -> EncodedEvent:
    """Add the common fields and encode. `now` is Unix time in seconds."""
    full_body = {
        "type": body["type"],
        "v": VERSION,
        "seq": seq,
        "session_id": session_id,
        "stream_id": stream_id,
        "ts": timestamp(now),
        **body,
    }
    # orjson returns a buffer of several times the length. Events stay in replay buffers, so they
    # are copied to size.
    return EncodedEvent(seq, full_body, bytes(memoryview(orjson.dumps(full_body))))
