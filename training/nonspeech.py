"""How often a model names an emotion where nobody speaks, through the server's own pipeline."""

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
"""Kinds of sounds.csv in which nobody speaks."""

WARNINGS = frozenset({"music", "noisy", "tone", "high_pitch", "low_confidence"})
"""Hints that tell a reader not to believe the label."""


@dataclass(frozen=True)
class FalseEmotions:
    """Utterances the voice detector found in `seconds` of sound: how many got a top label other
    than `unknown`, and how many of those without a hint in `WARNINGS`."""

    kind: str
    seconds: float
    utterances: int
    named: int
    sure: int
    windows: int
    windows_named: int


def read_sounds(path: Path, kinds: Sequence[str] = KINDS) -> dict[str, list[Array]]:
    """Sounds of a CSV with the columns path and kind, by kind; paths are relative to it."""
    sounds: dict[str, list[Array]] = {kind: [] for kind in kinds}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["kind"] in sounds:
                sounds[row["kind"]].append(decode(path.parent / row["path"]))
    return {kind: found for kind, found in sounds.items() if found}


def segments(backend: Backend, audio: Array) -> list[Segment]:
    """What the server would say of the sound's utterances, at its default settings."""
    line = StreamPipeline(AudioFormat("f32le", RATE, 1), (0,), backend.info, AnalysisSettings())

    def infer(window: Window) -> FrameScores:
        return FrameScores(window, backend.infer(window.audio[None])[0])

    pause = np.zeros(RATE, np.float32)
    data = np.concatenate([audio, pause]).astype("<f4").tobytes()
    events = analyse(line, [data], infer)
    return [event for event in events if isinstance(event, Segment) and event.scores]


def top(segment: Segment) -> str:
    return max(segment.scores, key=segment.scores.__getitem__)


def count(backend: Backend, kind: str, sounds: Sequence[Array]) -> FalseEmotions:
    """False emotions of one kind of sound."""
    found = [segment for audio in sounds for segment in segments(backend, audio)]
    named = [segment for segment in found if top(segment) != "unknown"]
    sure = [segment for segment in named if not WARNINGS.intersection(segment.hints)]
    every = np.concatenate([windows(audio) for audio in sounds])
    labels = np.array(backend.info.labels)
    means = np.concatenate([backend.infer(row[None]).mean(axis=1) for row in every])
    guessed = labels[means.argmax(axis=1)] != "unknown"
    seconds = sum(len(audio) for audio in sounds) / RATE
    return FalseEmotions(
        kind, seconds, len(found), len(named), len(sure), len(every), int(guessed.sum())
    )


def windows(audio: Array) -> Array:
    """Windows of 3 s every 3 s, without any voice detector; the last one is repeated audio."""
    length = 3 * RATE
    return np.resize(audio, (-(-len(audio) // length), length)).astype(np.float32)
