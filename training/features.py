"""Features of windows: means over frames of the encoder's outputs, computed once, kept on disk.

The encoder is not trained, and it runs here in 8 bits, from the graph that ships. So a head is
fitted to the numbers that it will get, and a window is encoded once for all heads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.random import Generator
from rich.progress import track

from training.augment import change_voice, degrade
from training.data import FRAME, LENGTHS, Array, Clip, Mask, cut
from training.measure import Ints
from training.sounds import not_speech
from training.views import CONDITIONS, windows

Piece = tuple[Array, Mask]
"""A window float32[samples], and which of its frames count, bool[frames]."""

SHARES = (0.3, 0.7)
"""Shares of the lengths among degraded windows."""


class FrameEncoder:
    """The encoder as an ONNX session: audio float32[samples] → frames float32[frames, features]."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def mean(self, pieces: Iterable[Piece]) -> Array:
        """Return the mean over all frames that count, float32[features]; NaN if none does."""
        total, count = np.zeros(1), 0
        for audio, counted in pieces:
            (frames,) = self._session.run(["frames"], {"audio": audio[None]})
            total = total + frames[0][counted].sum(axis=0, dtype=np.float64)
            count += int(counted.sum())
        return (total / count if count else np.full(total.shape, np.nan)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Features:
    """Mean features float32[rows, features] and the clip of each row, -1 for a synthetic sound."""

    means: Array
    clips: Ints


class FeatureCache:
    """Features by name in a folder; what was made from other inputs is made again."""

    def __init__(self, folder: Path, encoder: FrameEncoder, digest: str, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._encoder, self._digest, self._seed = folder, encoder, digest, seed

    def degraded(self, name: str, clips: Sequence[Clip], copies: int) -> Features:
        """Return features of `copies` degraded windows of every clip."""

        def copy(number: int) -> Iterable[Sequence[Piece]]:
            rng = np.random.default_rng([self._seed, number])
            return ([degraded(rng, clip, clips)] for clip in clips)

        made = [self._means(f"{name}-{n}", clips, copy, n) for n in range(copies)]
        return Features(np.concatenate(made), np.tile(np.arange(len(clips)), copies))

    def sounds(self, count: int) -> Features:
        """Return features of `count` degraded synthetic sounds of the longest length."""

        def pieces(number: int) -> Iterable[Sequence[Piece]]:
            rng = np.random.default_rng([self._seed, 1000])
            for _ in range(number):
                length = max(LENGTHS)
                sound = degrade(rng, not_speech(rng, length) * np.float32(0.1))
                yield [(sound, np.ones(length // FRAME, np.bool_))]

        return Features(self._means("sounds", [], pieces, count), np.full(count, -1))

    def view(self, name: str, clips: Sequence[Clip], condition: str) -> Features:
        """Return features of whole clips under a recording condition."""

        def pieces(_: int) -> Iterable[Sequence[Piece]]:
            apply = CONDITIONS[condition]
            return (windows(apply(clip.audio), clip.speech) for clip in clips)

        slug = f"{name}-{condition.replace(' ', '-')}"
        return Features(self._means(slug, clips, pieces, 0), np.arange(len(clips)))

    def _means(
        self,
        name: str,
        clips: Sequence[Clip],
        pieces: Callable[[int], Iterable[Sequence[Piece]]],
        argument: int,
    ) -> Array:
        inputs = [self._digest, self._seed, argument, [clip.path for clip in clips]]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        path = self._folder / f"{name}.npz"
        if path.exists():
            with np.load(path) as stored:
                if str(stored["inputs"]) == digest:
                    return np.asarray(stored["means"], np.float32)
        count = len(clips) or argument
        rows = track(pieces(argument), description=name, total=count)
        means = np.stack([self._encoder.mean(row) for row in rows])
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, means=means, inputs=digest, allow_pickle=False)
        unfinished.replace(path)
        return means


def degraded(rng: Generator, clip: Clip, clips: Sequence[Clip]) -> Piece:
    """Return a degraded window of a clip: mostly in another voice, cut at random, after another."""
    varied = replace(clip, audio=change_voice(rng, clip.audio)) if rng.random() < 0.8 else clip
    length = int(rng.choice(LENGTHS, p=SHARES))
    window, counted = cut(rng, varied, clips[int(rng.integers(len(clips)))], length)
    return degrade(rng, window), counted
