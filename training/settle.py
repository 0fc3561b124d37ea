"""Fitting of the head ("settling"): a logistic regression on the frames of a fixed encoder.

Frame logits are linear in frames, so their mean is the logits of the mean frame: all that the head
can learn from a window is in one vector, and the best head is found exactly.

Actors exaggerate. So every emotional window is learnt twice: as it was acted, and moved part of
the way to the mean neutral frame of its speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from training.bank import Bank, Half
from training.data import Mask
from training.fit import FRAMES, Ints, Task, loss_of
from training.model import Emotion, Head
from training.recipe import Recipe
from training.whisper import Encoder, LogMel

ROWS = 16
"""Windows per call of the encoder."""


@dataclass(frozen=True, eq=False)
class EncodedBank:
    """Mean frames of a bank, over the last 1, 2 and 3 s of every window.

    `speech` is float32[lengths, copies, clips, features], `sounds` is
    float32[lengths, sounds, features].
    """

    speech: Tensor
    sounds: Tensor


@dataclass(frozen=True, eq=False)
class Means:
    """Mean frames float32[windows, features], their labels, and their speakers ("" for sounds)."""

    frames: Tensor
    truth: Ints
    speakers: NDArray[np.str_]


def mean_frames(encoder: Encoder, levels: Half, counted: Mask, name: str) -> Tensor:
    """Return means over the frames that count, float32[lengths, windows, features]."""
    means = torch.zeros(len(FRAMES), len(levels), encoder.shape.layers * encoder.shape.width)
    with torch.no_grad():
        for begin in track(range(0, len(levels), ROWS), description=name):
            mels = torch.from_numpy(levels[begin : begin + ROWS].astype(np.float32))
            mask = torch.from_numpy(counted[begin : begin + ROWS]).float()
            for row, length in zip(means, FRAMES, strict=True):
                frames = encoder.encode(LogMel.normalised(mels[..., -2 * length :]))
                counting = mask[:, -length:]
                total = torch.einsum("btf,bt->bf", frames, counting)
                row[begin : begin + ROWS] = total / counting.sum(dim=1, keepdim=True)
    return means


def encode_bank(encoder: Encoder, bank: Bank, name: str) -> EncodedBank:
    """Encode every copy of every clip, and all sounds."""
    speech = bank.speech.reshape(-1, *bank.speech.shape[2:])
    counted = bank.counted.reshape(len(speech), -1)
    means = mean_frames(encoder, speech, counted, f"{name}, clips")
    all_count = np.ones((len(bank.sounds), counted.shape[1]), np.bool_)
    shape = (len(FRAMES), len(bank.speech), -1, means.shape[-1])
    sounds = mean_frames(encoder, bank.sounds, all_count, f"{name}, sounds")
    return EncodedBank(means.reshape(shape), sounds)


def training_windows(encoded: EncodedBank, task: Task) -> Means:
    """Return the windows of the clips that `task` selects, and all sounds."""
    speech = encoded.speech[:, :, task.selected].flatten(0, 2)
    sounds = encoded.sounds.flatten(0, 1)
    repeats = len(speech) // len(task.selected)
    truth = np.tile(task.truth[task.selected], repeats)
    speakers = np.tile(np.asarray(task.speakers)[task.selected], repeats)
    if len(sounds):
        truth = np.append(truth, [task.labels.index("unknown")] * len(sounds))
        speakers = np.append(speakers, [""] * len(sounds))
    frames = torch.cat([speech, sounds])
    # A pause may fill a short window: then no frame counts, and the mean is NaN.
    valid = frames.isfinite().all(dim=1)
    rows = valid.numpy()
    return Means(frames[valid], truth[rows], speakers[rows])


def milder(means: Means, labels: Sequence[str], strength: float) -> Means:
    """Return the emotional windows at `strength`: 1 as acted, 0 the speaker's mean neutral frame.

    Speakers without a neutral window are omitted.
    """
    neutral = means.truth == labels.index("neutral") if "neutral" in labels else means.truth < 0
    frames, emotional = means.frames.clone(), np.zeros(len(neutral), np.bool_)
    for speaker in np.unique(means.speakers[neutral]):
        own = means.speakers == speaker
        centre = means.frames[own & neutral].mean(dim=0)
        frames[own] = centre + strength * (frames[own] - centre)
        emotional |= own & ~neutral
    return Means(frames[emotional], means.truth[emotional], means.speakers[emotional])


def set_projection(head: Head, frames: Tensor) -> None:
    """Set the projection to the principal components of standardised frames [n, features]."""
    mean, deviation = frames.mean(dim=0), frames.std(dim=0).clamp(min=1e-6)
    _, axes = torch.linalg.eigh(torch.cov(((frames - mean) / deviation).T))
    scaled = axes[:, -head.project.out_features :] / deviation[:, None]
    with torch.no_grad():
        head.project.weight.copy_(scaled.T)
        head.project.bias.copy_(-mean @ scaled)


def settle(model: Emotion, encoded: EncodedBank, task: Task, recipe: Recipe) -> None:
    """Fit the model's head to the frames of its encoder."""
    acted = training_windows(encoded, task)
    parts = [acted] + ([milder(acted, task.labels, recipe.mild)] if recipe.mild < 1 else [])
    set_projection(model.head, acted.frames)
    with torch.no_grad():
        inputs = model.head.project(torch.cat([part.frames for part in parts]))
    truth = np.concatenate([part.truth for part in parts])
    regress(model.head.out, inputs, truth, task.labels, recipe)
    model.requires_grad_(False).eval()


def regress(
    out: nn.Linear, inputs: Tensor, truth: Ints, labels: Sequence[str], recipe: Recipe
) -> None:
    """Fit the layer to inputs float32[n, components] by cross-entropy; labels weigh the same."""
    counts = np.bincount(truth, minlength=len(labels)).clip(min=1)
    weight = torch.from_numpy(1 / counts).float()
    weight /= weight.mean()
    targets = torch.from_numpy(truth)
    out.requires_grad_(True)
    with torch.no_grad():
        out.weight.zero_()
        out.bias.zero_()
    solver = torch.optim.LBFGS(
        out.parameters(), max_iter=recipe.settle_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        solver.zero_grad()
        loss = loss_of(out(inputs), targets, labels, recipe, weight)
        loss = loss + recipe.ridge * out.weight.square().sum()
        torch.autograd.backward(loss)
        return float(loss.detach())

    solver.step(closure)
