"""Mean features of the utterances that the server's voice detector finds in recordings.

`unknown` is learnt from them, because they are what the server scores: a drum or a click comes as
a part of a second with a pause before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from stream.admission import analysis_settings
from stream.analysis.pipeline import StreamPipeline, analyse
from stream.config import Config
from stream.types import AudioFormat, FrameScores, ModelInfo, Segment, Window
from training.augment import change_voice, degrade
from training.data import FRAME, LENGTHS, RATE, Array

Frames = Callable[[Array], Array]
"""Window float32[samples] → features float32[frames, features]."""


@dataclass(frozen=True, eq=False)
class Heard:
    """An utterance [start, end) in samples and its mean features float32[features]."""

    start: int
    end: int
    features: Array


def hear(frames: Frames, width: int, audio: Array) -> list[Heard]:
    """Return the utterances that the server would score in float32[samples] at 16 kHz.

    `width` is the number of features. A second of silence follows, so that the last one ends.
    """
    info = ModelInfo("encoder", "", ("neutral",), FRAME, LENGTHS, (1,), 1.0, "", "cpu", dim=width)
    settings = replace(analysis_settings(Config(), info), embeddings=True)
    pipeline = StreamPipeline(AudioFormat("f32le", RATE, 1), (0,), info, settings)

    def infer(window: Window) -> FrameScores:
        features = frames(window.audio)
        return FrameScores(window, np.zeros((len(features), 1), np.float32), features)

    data = np.concatenate([audio, np.zeros(RATE, np.float32)]).astype("<f4").tobytes()
    return [
        Heard(event.start, event.end, event.embedding)
        for event in analyse(pipeline, [data], infer)
        if isinstance(event, Segment) and event.embedding is not None
    ]


def spoken(rng: Generator, audio: Array) -> tuple[Array, int, int]:
    """Return a degraded clip with pauses around it, and the samples at which it begins and ends.

    It is another voice mostly, and every second clip is cut to a word or so.
    """
    audio = audio[: 8 * RATE]
    if rng.random() < 0.7:
        audio = change_voice(rng, audio)
    if rng.random() < 0.45:
        audio = fragment(rng, audio)
    before, after = (int(rng.uniform(*limits) * RATE) for limits in ((0.2, 1.2), (0.3, 0.8)))
    padded = np.concatenate([np.zeros(before), audio, np.zeros(after)]).astype(np.float32)
    return degrade(rng, padded), before, before + len(audio)


def fragment(rng: Generator, audio: Array) -> Array:
    """Return a part of speech of about 0.2 to 1.2 s, cut where it is less loud."""
    level = dips(audio)
    first = int(rng.integers(len(level) - 1))
    least = level[first] + int(rng.uniform(0.2, 1.2) * RATE)
    last = next((at for at in level[first + 1 :] if at >= least), level[-1])
    piece = audio[level[first] : last].copy()
    fade = min(RATE // 100, len(piece) // 4)
    if fade:
        piece[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        piece[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return piece


def dips(audio: Array) -> list[int]:
    """Return the samples of local minima 12 dB below the loud frames, with both ends."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.convolve(10 * np.log10((frames**2).mean(axis=1) + 1e-10), np.ones(3) / 3, "same")
    limit = np.percentile(level, 95) - 12
    inner = [
        i * FRAME
        for i in range(2, len(level) - 2)
        if level[i] < limit and level[i] == level[i - 2 : i + 3].min()
    ]
    return [0, *inner, len(audio)]


def is_within(heard: Heard, start: int, end: int) -> bool:
    """Return whether most of an utterance lies in [start, end): the rest may be noise."""
    inside = min(heard.end, end) - max(heard.start, start)
    return inside > 0.6 * (heard.end - heard.start)
