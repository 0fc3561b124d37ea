"""Recordings through the server's own pipeline, at its default settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stream.admission import analysis_settings
from stream.analysis.pipeline import StreamPipeline, analyse
from stream.backends.base import Backend
from stream.config import Config
from stream.types import AudioFormat, FrameScores, ModelInfo, Segment, Window
from training.data import RATE, Array
from training.measure import Floats

LEAST = 5e-5
"""Half of the smallest share that a score can have; shares of 0 count as this."""


def segments(backend: Backend, audio: Array) -> list[Segment]:
    """Return the scored segments that the server would emit for float32[samples] at 16 kHz.

    A second of silence follows, so that the last utterance ends as in a call.
    """
    settings = analysis_settings(Config(), backend.info)
    pipeline = StreamPipeline(AudioFormat("f32le", RATE, 1), (0,), backend.info, settings)

    def infer(window: Window) -> FrameScores:
        return FrameScores(window, backend.infer(window.audio[None])[0])

    pause = np.zeros(RATE, np.float32)
    data = np.concatenate([audio, pause]).astype("<f4").tobytes()
    events = analyse(pipeline, [data], infer)
    return [event for event in events if isinstance(event, Segment) and event.scores]


def logits_of(info: ModelInfo, scores: Mapping[str, float]) -> Floats:
    """Return logits float[labels] of scores, before the temperature and up to a constant."""
    shares = np.array([scores[label] for label in info.labels])
    logits: Floats = info.temperature * np.log(np.maximum(shares, LEAST))
    return logits


def overall(backend: Backend, audio: Array) -> Floats | None:
    """Return the logits float[labels] of a whole recording; None if no utterance was found."""
    found = segments(backend, audio)
    return logits_of(backend.info, found[-1].rolling["call"]) if found else None


def utterances(backend: Backend, recordings: Sequence[Array]) -> tuple[Floats, list[Segment]]:
    """Return the logits float[utterances, labels] and segments of all utterances."""
    found = [segment for audio in recordings for segment in segments(backend, audio)]
    rows = [logits_of(backend.info, segment.scores) for segment in found]
    return np.reshape(rows, (len(found), len(backend.info.labels))), found
