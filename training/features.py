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
from typing import Any

import numpy as np
import onnxruntime
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track

from training.augment import change_voice, degrade
from training.data import FRAME, LENGTHS, RATE, Array, Clip, Mask, cut
from training.heard import Heard, hear, is_within, spoken
from training.measure import Ints
from training.sounds import not_speech, scene
from training.views import CONDITIONS, windows

Piece = tuple[Array, Mask]
"""A window float32[samples], and which of its frames count, bool[frames]."""

SCENE = 10 * RATE
"""Samples of a scene of sounds."""

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
        self.width: int = self._session.get_outputs()[0].shape[-1]

    def frames(self, audio: Array) -> Array:
        """Return the features float32[frames, features] of a window float32[samples]."""
        frames: Array = self._session.run(["frames"], {"audio": audio[None]})[0][0]
        return frames

    def mean(self, pieces: Iterable[Piece]) -> Array:
        """Return the mean over all frames that count, float32[features]; NaN if none does."""
        total, count = np.zeros(1), 0
        for audio, counted in pieces:
            total = total + self.frames(audio)[counted].sum(axis=0, dtype=np.float64)
            count += int(counted.sum())
        return (total / count if count else np.full(total.shape, np.nan)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Features:
    """Mean features float32[rows, features] and the clip of each row."""

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

    def sounds(self, count: int) -> Array:
        """Return features float32[count, features] of sounds that fill a degraded window."""

        def pieces(number: int) -> Iterable[Sequence[Piece]]:
            rng = np.random.default_rng([self._seed, 1000])
            for _ in range(number):
                length = max(LENGTHS)
                sound = degrade(rng, not_speech(rng, length) * np.float32(0.1))
                yield [(sound, np.ones(length // FRAME, np.bool_))]

        return self._means("sounds", [], pieces, count)

    def scenes(self, count: int) -> Array:
        """Return features of the utterances that the server finds in `count` scenes of sounds."""

        def scenes(rng: Generator) -> Iterable[list[Heard]]:
            for _ in range(count):
                sound = degrade(rng, scene(rng, SCENE) * np.float32(0.1))
                yield hear(self._encoder.frames, self._encoder.width, sound)

        return self._heard("scenes", [], count, scenes).means

    def spoken(self, name: str, clips: Sequence[Clip], copies: int) -> Features:
        """Return features of the utterances that the server finds in degraded clips."""

        def utterances(rng: Generator) -> Iterable[list[Heard]]:
            for _ in range(copies):
                for clip in clips:
                    audio, start, end = spoken(rng, clip.audio)
                    found = hear(self._encoder.frames, self._encoder.width, audio)
                    yield [one for one in found if is_within(one, start, end)]

        found = self._heard(f"{name}-spoken", clips, copies * len(clips), utterances)
        return Features(found.means, found.clips % len(clips))

    def view(self, name: str, clips: Sequence[Clip], condition: str) -> Features:
        """Return features of whole clips under a recording condition."""

        def pieces(_: int) -> Iterable[Sequence[Piece]]:
            apply = CONDITIONS[condition]
            return (windows(apply(clip.audio), clip.speech) for clip in clips)

        slug = f"{name}-{condition.replace(' ', '-')}"
        return Features(self._means(slug, clips, pieces, 0), np.arange(len(clips)))

    def _heard(
        self,
        name: str,
        clips: Sequence[Clip],
        count: int,
        make: Callable[[Generator], Iterable[list[Heard]]],
    ) -> Features:
        """Return features of the utterances in `count` recordings, with the recording of each."""

        def compute() -> dict[str, NDArray[Any]]:
            rng = np.random.default_rng([self._seed, 1000])
            found = list(track(make(rng), description=name, total=count))
            rows = [one.features for utterances in found for one in utterances]
            return {
                "means": np.reshape(np.array(rows, np.float32), (-1, self._encoder.width)),
                "clips": np.repeat(np.arange(count), [len(utterances) for utterances in found]),
            }

        stored = self._cached(name, clips, count, compute)
        return Features(stored["means"], stored["clips"])

    def _means(
        self,
        name: str,
        clips: Sequence[Clip],
        pieces: Callable[[int], Iterable[Sequence[Piece]]],
        argument: int,
    ) -> Array:
        def compute() -> dict[str, NDArray[Any]]:
            rows = track(pieces(argument), description=name, total=len(clips) or argument)
            return {"means": np.stack([self._encoder.mean(row) for row in rows])}

        return self._cached(name, clips, argument, compute)["means"]

    def _cached(
        self,
        name: str,
        clips: Sequence[Clip],
        argument: int,
        compute: Callable[[], dict[str, NDArray[Any]]],
    ) -> dict[str, NDArray[Any]]:
        """Return the arrays of a name: read if the inputs are the same, computed otherwise."""
        inputs = [self._digest, self._seed, argument, [clip.path for clip in clips]]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        path = self._folder / f"{name}.npz"
        if path.exists():
            with np.load(path) as stored:
                if str(stored["inputs"]) == digest:
                    return {key: stored[key] for key in stored if key != "inputs"}
        arrays = compute()
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, allow_pickle=False, inputs=digest, **arrays)
        unfinished.replace(path)
        return arrays


def degraded(rng: Generator, clip: Clip, clips: Sequence[Clip]) -> Piece:
    """Return a degraded window of a clip: mostly in another voice, cut at random, after another."""
    varied = replace(clip, audio=change_voice(rng, clip.audio)) if rng.random() < 0.8 else clip
    length = int(rng.choice(LENGTHS, p=SHARES))
    window, counted = cut(rng, varied, clips[int(rng.integers(len(clips)))], length)
    return degrade(rng, window), counted
