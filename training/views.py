"""Views of a clip for measurements: a recording condition, and the windows that are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.augment import telephone
from training.data import FRAME, LENGTHS, RATE, Array, mirrored
from training.sounds import noise

Infer = Callable[[Array], Array]

VIEWS = ("1 s", "3 s", "clip")
"""The middle 1 s or 3 s of a clip in one window, or the whole clip in 3 s windows every second."""


def at_10_db(audio: Array) -> Array:
    """Add steady noise 10 dB below the clip; equal lengths get equal noise."""
    rng = np.random.default_rng(len(audio))
    mixed: Array = audio + noise(rng, len(audio)) * audio.std() * np.float32(10**-0.5)
    return mixed


CONDITIONS: dict[str, Callable[[Array], Array]] = {
    "clean": lambda audio: audio,
    "telephone": telephone,
    "10 dB noise": at_10_db,
}


def windows(audio: Array, view: str) -> list[tuple[Array, int]]:
    """Return the windows of a view of a clip, each with how many of its last frames count."""
    longest = max(LENGTHS)
    if view == "clip":
        ends = [*range(longest, len(audio), RATE), len(audio)]
        pieces = [audio[max(0, end - longest) : end] for end in ends]
        length = longest
    else:
        length = RATE * int(view.split()[0])
        start = max(0, len(audio) - length) // 2
        pieces = [audio[start : start + length]]
    return [(mirrored(piece, length), len(piece) // FRAME) for piece in pieces]


def score(infer: Infer, audio: Array, view: str) -> Array:
    """Return mean logits float32[labels] over the frames that count; `infer` as in `Backend`."""
    frames = [infer(window[None])[0, -n:] for window, n in windows(audio, view)]
    mean: Array = np.concatenate(frames).mean(axis=0)
    return mean
