"""Recording conditions for measurements, and the windows of a clip as the server cuts them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.augment import telephone
from training.data import FRAME, LENGTHS, RATE, Array, Mask, mirrored
from training.sounds import noise


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


def windows(audio: Array, speech: Mask) -> list[tuple[Array, Mask]]:
    """Return windows of the longest length that end every second, and which frames count.

    `speech` bool[frames] says which frames of the clip are speech.
    """
    longest, whole = max(LENGTHS), len(audio) // FRAME * FRAME
    pieces = []
    for end in [*range(longest, whole, RATE), whole]:
        start = max(0, end - longest)
        counted = np.zeros(longest // FRAME, np.bool_)
        counted[(start - end) // FRAME :] = speech[start // FRAME : end // FRAME]
        pieces.append((mirrored(audio[start:end], longest), counted))
    return pieces
