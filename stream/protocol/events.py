"""Events of `emotide.v1`: analysis events as JSON bodies, and their encoding. No I/O."""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from stream.labels import activation, top
from stream.protocol.version import VERSION
from stream.protocol.wire import analysis, parts
from stream.protocol.wire.common import Channel
from stream.protocol.wire.events import StreamBody
from stream.types import (
    BaselineUse,
    Body,
    Event,
    Features,
    FramePosteriors,
    Gap,
    ModelInfo,
    Quality,
    Score,
    Segment,
    SpeechEnd,
    SpeechStart,
    UtteranceFrames,
    timestamp,
    to_ms,
)

SCORE: Final = "emotion.score"
SEGMENT: Final = "emotion.segment"


@dataclass(frozen=True, slots=True)
class AnalysisEvents:
    """Bodies of one stream's analysis events: roles of its channels, its model, its labels."""

    roles: Sequence[str]
    model: ModelInfo
    labels: frozenset[str] = frozenset()

    def body(self, event: Event, latency_ms: int = 0) -> analysis.AnalysisBody:
        """Return the fields of `event` besides the common ones; positions become milliseconds.

        `latency_ms` is that of a score, and ignored for other events.
        """
        channel: Channel = {"channel": event.channel, "role": self.roles[event.channel]}
        match event:
            case Score():
                return {
                    "type": SCORE,
                    **channel,
                    "trigger": event.trigger,
                    **self._emotion(event),
                    "speech_ratio": event.speech_ratio,
                    **self._with_frames(event.frames),
                    "latency_ms": latency_ms,
                }
            case Segment():
                return {
                    "type": SEGMENT,
                    **channel,
                    "trigger": event.trigger,
                    **self._emotion(event),
                    "covered": event.covered,
                    **_with_embedding(event.embedding),
                }
            case SpeechStart():
                return {
                    "type": "speech.start",
                    **channel,
                    "utterance": event.utterance,
                    "audio_ms": to_ms(event.at),
                }
            case SpeechEnd():
                return {
                    "type": "speech.end",
                    **channel,
                    "utterance": event.utterance,
                    "audio_ms": to_ms(event.at),
                    "audio_start_ms": to_ms(max(0, event.start)),
                    "trigger": event.trigger,
                }
            case Gap():
                return {
                    "type": "stream.gap",
                    **channel,
                    "audio_ms": to_ms(event.start),
                    "audio_end_ms": to_ms(event.end),
                    "missing_ms": to_ms(event.speech),
                    "reason": event.reason,
                }

    def utterance(self, channel: int, frames: UtteranceFrames) -> Body:
        """Return a channel's newest utterance frame by frame, for `/v1/streams/{id}/frames`."""
        return {
            "channel": channel,
            "role": self.roles[channel],
            "utterance": frames.utterance,
            "hop_ms": to_ms(self.model.frame_hop),
            "labels": list(self.model.labels),
            "start_ms": [to_ms(start) for start in frames.starts.tolist()],
            "posteriors": _rounded(frames.posteriors),
        }

    def selected(self, scores: Mapping[str, float]) -> Mapping[str, float]:
        """Return the scores of the requested labels; of all labels if none were requested."""
        if not self.labels:
            return scores
        return {label: share for label, share in scores.items() if label in self.labels}

    def _with_frames(self, frames: FramePosteriors | None) -> analysis.WithFrames:
        if frames is None:
            return {}
        body: parts.Frames = {
            "start_ms": to_ms(frames.start),
            "hop_ms": to_ms(frames.hop),
            "labels": list(self.model.labels),
            "posteriors": _rounded(frames.posteriors),
        }
        if frames.features is not None:
            body["embeddings"] = pack(frames.features)
        return {"frames": body}

    def _emotion(self, event: Score | Segment) -> analysis.Emotion:
        return {
            "utterance": event.utterance,
            "audio_start_ms": to_ms(max(0, event.start)),
            "audio_end_ms": to_ms(event.end),
            "scores": self.selected(event.scores),
            "rolling": {name: self.selected(scores) for name, scores in event.rolling.items()},
            "top": top(event.scores),
            "activation": activation(event.scores),
            "quality": quality_body(event.quality),
            "hints": list(event.hints),
            "model": {"id": self.model.id, "revision": self.model.revision},
            **self._with_baseline(event.baseline),
        }

    def _with_baseline(self, use: BaselineUse | None) -> parts.WithBaseline:
        if use is None:
            return {}
        return {"baseline": baseline_body(use, self.selected(use.scores))}


def _with_embedding(embedding: Features | None) -> analysis.WithEmbedding:
    return {} if embedding is None else {"embedding": pack(embedding)}


def baseline_body(use: BaselineUse, scores: Mapping[str, float]) -> parts.Baseline:
    """Return the unmoved scores, and the baseline that moved them."""
    value = activation(use.scores)
    change = None
    if value is not None and use.activation is not None:
        change = round(value - use.activation, 4)
    return {
        "speech_s": use.speech_s,
        "weight": use.weight,
        "scores": scores,
        "activation": value,
        "activation_change": change,
    }


def quality_body(quality: Quality) -> parts.Quality:
    """Return the measurements of an utterance."""
    return {
        "rms_dbfs": quality.rms_dbfs,
        "clipped": quality.clipped,
        "snr_db": quality.snr_db,
        "band": quality.band,
        "speech_s": quality.speech_s,
        "sound": quality.sound,
    }


def pack(array: NDArray[np.float32]) -> parts.Packed:
    """Encode an array as little-endian float16 in base64, with its shape.

    It takes a fifth of the space of JSON numbers.
    """
    data = base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
    return {"dtype": "float16", "shape": list(array.shape), "data": data}


def model_body(model: ModelInfo) -> parts.Model:
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


def _rounded(posteriors: NDArray[np.float32]) -> list[list[float]]:
    rows: list[list[float]] = posteriors.astype(float).round(4).tolist()
    return rows


class EncodedEvent:
    """One event of one stream, encoded once for all receivers: `data` is the JSON object.

    The decoded `body` is made from `data` when it is asked for, unless it is at hand.
    """

    __slots__ = ("_body", "data", "seq", "type")

    def __init__(
        self, seq: int, type_: str, data: bytes, body: Mapping[str, Any] | None = None
    ) -> None:
        self.seq = seq
        self.type = type_
        self.data = data
        self._body = body

    @property
    def body(self) -> Mapping[str, Any]:
        if self._body is None:
            self._body = orjson.loads(self.data)
        assert self._body is not None
        return self._body

    def bare(self) -> EncodedEvent:
        """Return the event without its decoded body, to keep it in little memory."""
        return EncodedEvent(self.seq, self.type, self.data)

    def tagged(self, tags: Mapping[str, str]) -> bytes:
        """Return `data` with fields added, such as the subscription's id (`sub`).

        The event is not encoded again.
        """
        return self.data[:-1] + b"," + orjson.dumps(tags)[1:]


class EventEncoder:
    """Numbers and encodes the events of one stream."""

    __slots__ = ("seq", "session_id", "stream_id")

    def __init__(self, session_id: str, stream_id: str) -> None:
        self.session_id = session_id
        self.stream_id = stream_id
        self.seq = 0

    def encode(self, body: StreamBody) -> EncodedEvent:
        """Add the common fields with the next `seq`, and encode."""
        event = encode(body, self.seq, self.session_id, self.stream_id, time.time())
        self.seq += 1
        return event

    def without(self, event: EncodedEvent, fields: Collection[str]) -> EncodedEvent:
        """Return `event` without the fields named, which are for its producer only."""
        kept = {key: value for key, value in event.body.items() if key not in fields}
        return encode(kept, event.seq, self.session_id, self.stream_id, time.time())


def encode(
    body: Mapping[str, Any], seq: int, session_id: str, stream_id: str, now: float
) -> EncodedEvent:
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
    data = bytes(memoryview(orjson.dumps(full_body)))
    return EncodedEvent(seq, body["type"], data, full_body)
