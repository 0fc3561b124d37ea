"""Rate of emotions that a model names in sounds without speech, in the server's own pipeline."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.backends.base import Backend
from stream.types import AudioFormat, FrameScores, Segment, Window
from training.data import RATE, Array, decode

KINDS = (
    "noises, IRs",
    "infant cries (non-speech)",
    "music/birds",
    "tones",
    "DTMF, hold music",
    "ambience, keyboard",
)
"""Kinds of sounds.csv without speech."""

WARNINGS = frozenset({"music", "noisy", "tone", "high_pitch", "low_confidence"})
"""Hints that the label is not to be trusted."""


@dataclass(frozen=True)
class FalseEmotions:
    """Utterances that the voice detector found in `seconds` of sound without speech.

    `named` got a top label other than `unknown`; `sure` of those have no hint in `WARNINGS`.
    `windows` are the windows of 3 s, `windows_named` those with such a label.
    """

    kind: str
    seconds: float
    utterances: int
    named: int
    sure: int
    windows: int
    windows_named: int


def read_sounds(path: Path, kinds: Sequence[str] = KINDS) -> dict[str, list[Array]]:
    """Read sounds, by kind, from a CSV with the columns path (relative to it) and kind."""
    sounds: dict[str, list[Array]] = {kind: [] for kind in kinds}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["kind"] in sounds:
                sounds[row["kind"]].append(decode(path.parent / row["path"]))
    return {kind: audio for kind, audio in sounds.items() if audio}


def segments(backend: Backend, audio: Array) -> list[Segment]:
    """Return the segments that the server would emit for the sound at its default settings."""
    pipeline = StreamPipeline(AudioFormat("f32le", RATE, 1), (0,), backend.info, AnalysisSettings())

    def infer(window: Window) -> FrameScores:
        return FrameScores(window, backend.infer(window.audio[None])[0])

    pause = np.zeros(RATE, np.float32)
    data = np.concatenate([audio, pause]).astype("<f4").tobytes()
    events = analyse(pipeline, [data], infer)
    return [event for event in events if isinstance(event, Segment) and event.scores]


def top(segment: Segment) -> str:
    return max(segment.scores, key=segment.scores.__getitem__)


def count(backend: Backend, kind: str, sounds: Sequence[Array]) -> FalseEmotions:
    """Count false emotions in one kind of sound."""
    spoken = [segment for audio in sounds for segment in segments(backend, audio)]
    named = [segment for segment in spoken if top(segment) != "unknown"]
    sure = [segment for segment in named if not WARNINGS.intersection(segment.hints)]
    rows = np.concatenate([windows(audio) for audio in sounds])
    labels = np.array(backend.info.labels)
    means = np.concatenate([backend.infer(row[None]).mean(axis=1) for row in rows])
    wrong = labels[means.argmax(axis=1)] != "unknown"
    seconds = sum(len(audio) for audio in sounds) / RATE
    return FalseEmotions(
        kind, seconds, len(spoken), len(named), len(sure), len(rows), int(wrong.sum())
    )


def windows(audio: Array) -> Array:
    """Cut windows of 3 s every 3 s, without voice detector; the last is filled by repetition."""
    length = 3 * RATE
    return np.resize(audio, (-(-len(audio) // length), length)).astype(np.float32)
