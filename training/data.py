"""Clips of a manifest, cut into windows like those of the live server."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

RATE, FRAME = 16_000, 320
LENGTHS = (RATE, 2 * RATE)
"""Window lengths in samples for which the model is trained."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A labelled recording: float32[samples] at 16 kHz, without silence at both ends."""

    path: str
    corpus: str
    speaker: str
    emotion: str
    audio: Array
    language: str = ""
    gender: str = ""

    @property
    def speech(self) -> Mask:
        """Which of its frames are speech, bool[samples // 320]."""
        return speech_mask(self.audio)


def decode(path: Path) -> Array:
    """Decode an audio file to float32[samples] at 16 kHz, mixed down to mono."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono")
        stream = container.streams.audio[0]
        frames = [f for packet in container.decode(stream) for f in resampler.resample(packet)]
        rate = stream.rate or RATE
    audio = np.concatenate([f.to_ndarray().ravel() for f in frames]).astype(np.float32)
    return soxr.resample(audio, rate, RATE) if rate != RATE else audio


def speech_mask(audio: Array) -> Mask:
    """Return which 20 ms frames are speech: within 35 dB of the loud ones. For clean recordings."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    return np.asarray(level > np.percentile(level, 95) - 35)


def read_manifest(
    path: Path, corpora: set[str] | None = None, counts: Mapping[str, str] | None = None
) -> list[Clip]:
    """Read clips of a CSV with the columns path, corpus, speaker and emotion.

    The columns language and gender are optional. Paths are relative to the CSV. Clips with less
    than 0.4 s of speech are omitted. `counts` maps an emotion to the label it counts as.
    """
    clips, counts = [], counts or {}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if corpora and row["corpus"] not in corpora:
                continue
            audio = decode(path.parent / row["path"])
            speech = np.flatnonzero(speech_mask(audio))
            audio = audio[speech[0] * FRAME : (speech[-1] + 1) * FRAME]
            if len(audio) >= 0.4 * RATE:
                clips.append(
                    Clip(
                        row["path"],
                        row["corpus"],
                        row["speaker"],
                        counts.get(row["emotion"], row["emotion"]),
                        audio,
                        row.get("language") or "",
                        row.get("gender") or "",
                    )
                )
    return clips


def mirrored(audio: Array, length: int) -> Array:
    """Return the last `length` samples; audio that is too short is mirrored at its start."""
    missing = max(0, length - len(audio))
    return np.pad(audio, (missing, 0), mode="reflect")[-length:]


def cut(rng: Generator, clip: Clip, before: Clip, length: int) -> tuple[Array, Mask]:
    """Return a window float32[length] of the clip, and which of its frames count.

    Speech shorter than the window is placed at its end. Before it comes noise, the clip `before`
    with a pause, or the mirrored speech; those frames do not count.
    """
    duration = length
    if rng.random() < 0.2:
        duration = int(rng.uniform(0.5, 1.0) * RATE) // FRAME * FRAME
    free = len(clip.audio) - duration
    start = int(rng.integers(free // FRAME + 1)) * FRAME if free > 0 else 0
    speech = clip.audio[start : start + duration]
    speech = speech[: min(len(speech), length) // FRAME * FRAME]
    missing = length - len(speech)
    kind = rng.random()
    if kind < 0.4:
        level = 10 ** (rng.uniform(-60, -30) / 20) * float(np.abs(speech).max())
        context = rng.normal(0, level, missing).astype(np.float32)
    elif kind < 0.7:
        pause = np.zeros(int(rng.uniform(0, 0.6) * RATE), np.float32)
        context = mirrored(np.concatenate([before.audio, pause]), missing) if missing else pause[:0]
    else:
        context = mirrored(speech, length)[:missing]
    mask = np.concatenate([np.zeros(missing // FRAME, np.bool_), speech_mask(speech)])
    return np.concatenate([context, speech]), mask
