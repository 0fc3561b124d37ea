"""Features of the utterances of a recording, kept beside its result. Blocking."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.feedback.utterance import MarkableUtterance
from stream.types import Segment

UTTERANCES = ".utterances.npz"
"""File in the folder of a result; it is not among the downloads."""


def write_utterances(folder: Path, model: tuple[str, str], segments: Sequence[Segment]) -> None:
    """Write the features of all utterances that have some. Raises `OSError`.

    `model` are the id and revision of the model whose features these are.
    """
    scored = [(s, s.embedding) for s in segments if s.embedding is not None]
    places = [(s.channel, s.utterance, max(0, s.start), s.end) for s, _ in scored]
    np.savez(
        folder / UTTERANCES,
        model=np.asarray(model),
        places=np.asarray(places, np.int64).reshape(-1, 4),
        features=np.asarray([features for _, features in scored], np.float32),
    )


def read_utterance(
    folder: Path, channel: int, utterance: int, audio: Path | None = None
) -> MarkableUtterance | None:
    """Return an utterance of a recording; None if it has none, or if it was not scored.

    `audio` is the WAV file to cut it from, None to leave its audio out. Raises `OSError`.
    """
    with np.load(folder / UTTERANCES, allow_pickle=False) as stored:
        places, model = stored["places"], stored["model"].tolist()
        rows = np.flatnonzero((places[:, 0] == channel) & (places[:, 1] == utterance))
        if not len(rows):
            return None
        features = np.asarray(stored["features"][rows[0]], np.float32)
    start, end = int(places[rows[0], 2]), int(places[rows[0], 3])
    clip = None if audio is None else _cut(audio, channel, start, end)
    return MarkableUtterance(
        channel, utterance, start, end, (model[0], model[1]), features.copy(), clip
    )


def _cut(path: Path, channel: int, start: int, end: int) -> NDArray[np.int16]:
    """Return int16[n] of one channel of a WAV file with 16 bits a sample."""
    with wave.open(str(path), "rb") as file:
        length = file.getnframes()
        file.setpos(min(start, length))
        samples = np.frombuffer(file.readframes(end - start), "<i2")
        return samples.reshape(-1, file.getnchannels())[:, channel].astype(np.int16)
