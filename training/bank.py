"""Degraded windows of every clip as log-mels on disk, made once and used by every fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import Progress

from training.augment import change_voice, degrade
from training.data import LENGTHS, Array, Clip, Mask, cut
from training.recipe import Recipe
from training.sounds import not_speech
from training.whisper import LogMel

Half = NDArray[np.float16]

LENGTH = max(LENGTHS)
ROWS = 16
"""Windows per mel computation."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Degraded copies of every clip, and synthetic sounds, as log10 of mel powers.

    `speech` is float16[copies, clips, mels, 2 * frames], `counted` bool[copies, clips, frames]
    marks the frames that count, `sounds` is float16[sounds, mels, 2 * frames].
    """

    speech: Half
    counted: Mask
    sounds: Half


def levels(mel: LogMel, audio: list[Array]) -> Half:
    """Return log10 of mel powers of windows of one length, float16[rows, mels, 2 * frames]."""
    batches = [np.stack(audio[i : i + ROWS]) for i in range(0, len(audio), ROWS)]
    with torch.no_grad():
        return np.concatenate([mel.levels(torch.from_numpy(b)).half().numpy() for b in batches])


def one_copy(
    rng: Generator, mel: LogMel, clips: list[Clip], sounds: int
) -> tuple[Half, Mask, Half]:
    """Make a window of every clip: mostly in another voice, cut at random, after another clip."""
    windows, masks = [], []
    for clip in clips:
        varied = replace(clip, audio=change_voice(rng, clip.audio)) if rng.random() < 0.8 else clip
        window, mask = cut(rng, varied, clips[rng.integers(len(clips))], LENGTH)
        windows.append(degrade(rng, window))
        masks.append(mask)
    others = [degrade(rng, not_speech(rng, LENGTH) * np.float32(0.1)) for _ in range(sounds)]
    mels = levels(mel, windows + others)
    return mels[: len(clips)], np.stack(masks), mels[len(clips) :]


def fill_bank(folder: Path, clips: list[Clip], mels: int, recipe: Recipe, seed: int) -> Bank:
    """Return the bank in `folder`; copies that exist there are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    mel = LogMel(mels)
    copies: list[tuple[Half, Mask, Half]] = []
    with Progress() as progress:
        for number in progress.track(range(recipe.copies), description="degrading clips"):
            path = folder / f"copy-{number:02}.npz"
            if not path.exists():
                rng = np.random.default_rng([seed, number])
                speech, counted, sounds = one_copy(rng, mel, clips, recipe.sounds)
                unfinished = path.with_suffix(".part.npz")
                np.savez(unfinished, speech=speech, counted=counted, sounds=sounds)
                unfinished.replace(path)
            with np.load(path) as stored:
                copies.append((stored["speech"], stored["counted"], stored["sounds"]))
    return Bank(
        np.stack([copy[0] for copy in copies]),
        np.stack([copy[1] for copy in copies]),
        np.concatenate([copy[2] for copy in copies]),
    )
