"""Degraded windows of every clip as log-mels on disk: made once, used by every fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import Progress

from training.augment import degrade, voiced
from training.data import LENGTHS, Array, Clip, Mask, cut
from training.encoder import LogMel
from training.recipe import Recipe
from training.sounds import not_speech

Half = NDArray[np.float16]

LENGTH = max(LENGTHS)
ROWS = 16
"""Windows whose mels are computed at once."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Copies of every clip: log10 of mel powers float16[copies, clips, mels, 2 * frames], which of
    the frames count bool[copies, clips, frames], and sounds float16[sounds, mels, 2 * frames].
    """

    speech: Half
    counted: Mask
    sounds: Half


def levels(mel: LogMel, audio: list[Array]) -> Half:
    """log10 of mel powers of windows of one length, float16[rows, mels, 2 * frames]."""
    batches = [np.stack(audio[i : i + ROWS]) for i in range(0, len(audio), ROWS)]
    with torch.no_grad():
        return np.concatenate([mel.levels(torch.from_numpy(b)).half().numpy() for b in batches])


def one_copy(
    rng: Generator, mel: LogMel, clips: list[Clip], sounds: int
) -> tuple[Half, Mask, Half]:
    """A window of every clip, each in some other voice, cut anew, after some other clip."""
    windows, masks = [], []
    for clip in clips:
        heard = replace(clip, audio=voiced(rng, clip.audio)) if rng.random() < 0.8 else clip
        window, mask = cut(rng, heard, clips[rng.integers(len(clips))], LENGTH)
        windows.append(degrade(rng, window))
        masks.append(mask)
    others = [degrade(rng, not_speech(rng, LENGTH) * np.float32(0.1)) for _ in range(sounds)]
    mels = levels(mel, windows + others)
    return mels[: len(clips)], np.stack(masks), mels[len(clips) :]


def fill_bank(folder: Path, clips: list[Clip], mels: int, recipe: Recipe, seed: int) -> Bank:
    """The bank in `folder`; copies that lie there already are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    mel, copies = LogMel(mels), []
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
    speech, counted, sounds = zip(*copies, strict=True)
    return Bank(np.stack(speech), np.stack(counted), np.concatenate(sounds))
