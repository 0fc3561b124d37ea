"""The head: a logistic regression over what the encoder says, as the encoder is.

Frame logits are linear in frames, so their mean is the logits of the mean frame: all that the head
can learn from a window is in one vector, and the best head is found exactly.

Actors speak as if to the last row. So every emotional window is learnt twice: as it was acted, and
part of the way back to how its speaker sounds when neutral.
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
from training.encoder import Encoder, LogMel
from training.fit import FRAMES, Ints, Task, loss_of
from training.model import Emotion, Head
from training.recipe import Recipe

ROWS = 16
"""Windows that are encoded at once."""


@dataclass(frozen=True, eq=False)
class Heard:
    """Mean frames of a bank: `speech` float32[lengths, copies, clips, features] and `sounds`
    float32[lengths, sounds, features], over the last 1, 2 and 3 s of every window."""

    speech: Tensor
    sounds: Tensor


@dataclass(frozen=True, eq=False)
class Means:
    """Mean frames float32[windows, features], their labels, and their speakers ("" for sounds)."""

    frames: Tensor
    truth: Ints
    speakers: NDArray[np.str_]


def mean_frames(encoder: Encoder, levels: Half, counted: Mask, name: str) -> Tensor:
    """Means over the frames that count, float32[lengths, windows, features]."""
    found = torch.zeros(len(FRAMES), len(levels), encoder.shape.layers * encoder.shape.width)
    with torch.no_grad():
        for begin in track(range(0, len(levels), ROWS), description=name):
            mels = torch.from_numpy(levels[begin : begin + ROWS].astype(np.float32))
            mask = torch.from_numpy(counted[begin : begin + ROWS]).float()
            for part, length in zip(found, FRAMES, strict=True):
                frames = encoder.encode(LogMel.levelled(mels[..., -2 * length :]))
                kept = mask[:, -length:]
                total = torch.einsum("btf,bt->bf", frames, kept)
                part[begin : begin + ROWS] = total / kept.sum(dim=1, keepdim=True)
    return found


def listen(encoder: Encoder, bank: Bank, name: str) -> Heard:
    """What the encoder says of every copy of every clip, and of all sounds."""
    speech = bank.speech.reshape(-1, *bank.speech.shape[2:])
    counted = bank.counted.reshape(len(speech), -1)
    found = mean_frames(encoder, speech, counted, f"{name}, clips")
    every = np.ones((len(bank.sounds), counted.shape[1]), np.bool_)
    shape = (len(FRAMES), len(bank.speech), -1, found.shape[-1])
    sounds = mean_frames(encoder, bank.sounds, every, f"{name}, sounds")
    return Heard(found.reshape(shape), sounds)


def chosen(heard: Heard, task: Task) -> Means:
    """The windows that a task may learn from."""
    speech = heard.speech[:, :, task.chosen].flatten(0, 2)
    sounds = heard.sounds.flatten(0, 1)
    times = len(speech) // len(task.chosen)
    truth = np.tile(task.truth[task.chosen], times)
    speakers = np.tile(np.asarray(task.speakers)[task.chosen], times)
    if len(sounds):
        truth = np.append(truth, [task.labels.index("unknown")] * len(sounds))
        speakers = np.append(speakers, [""] * len(sounds))
    frames = torch.cat([speech, sounds])
    # A pause may fill a short view: nothing of it counts, and its mean is NaN.
    spoken = frames.isfinite().all(dim=1)
    kept = spoken.numpy()
    return Means(frames[spoken], truth[kept], speakers[kept])


def milder(means: Means, labels: Sequence[str], strength: float) -> Means:
    """The emotional windows at `strength`: 1 is as acted, 0 the speaker's mean neutral frame.

    Speakers without a neutral window are left out.
    """
    neutral = means.truth == labels.index("neutral") if "neutral" in labels else means.truth < 0
    frames, kept = means.frames.clone(), np.zeros(len(neutral), np.bool_)
    for speaker in np.unique(means.speakers[neutral]):
        mine = means.speakers == speaker
        rest = means.frames[mine & neutral].mean(dim=0)
        frames[mine] = rest + strength * (frames[mine] - rest)
        kept |= mine & ~neutral
    return Means(frames[kept], means.truth[kept], means.speakers[kept])


def rotate(head: Head, frames: Tensor) -> None:
    """Set the projection to the principal components of standardised frames [n, features]."""
    mean, deviation = frames.mean(dim=0), frames.std(dim=0).clamp(min=1e-6)
    _, axes = torch.linalg.eigh(torch.cov(((frames - mean) / deviation).T))
    scaled = axes[:, -head.project.out_features :] / deviation[:, None]
    with torch.no_grad():
        head.project.weight.copy_(scaled.T)
        head.project.bias.copy_(-mean @ scaled)


def settle(model: Emotion, heard: Heard, task: Task, recipe: Recipe) -> None:
    """Give the model the best head for what its encoder says."""
    acted = chosen(heard, task)
    parts = [acted] + ([milder(acted, task.labels, recipe.mild)] if recipe.mild < 1 else [])
    rotate(model.head, acted.frames)
    with torch.no_grad():
        points = model.head.project(torch.cat([part.frames for part in parts]))
    answers = np.concatenate([part.truth for part in parts])
    regress(model.head.out, points, answers, task.labels, recipe)
    model.requires_grad_(False).eval()


def regress(
    out: nn.Linear, points: Tensor, answers: Ints, labels: Sequence[str], recipe: Recipe
) -> None:
    """Fit the layer to points float32[n, components]; in the cross-entropy every label weighs the
    same."""
    counts = np.bincount(answers, minlength=len(labels)).clip(min=1)
    weight = torch.from_numpy(1 / counts).float()
    weight /= weight.mean()
    truth = torch.from_numpy(answers)
    out.requires_grad_(True)
    with torch.no_grad():
        out.weight.zero_()
        out.bias.zero_()
    solver = torch.optim.LBFGS(
        out.parameters(), max_iter=recipe.settle_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        solver.zero_grad()
        loss = loss_of(out(points), truth, labels, recipe, weight)
        loss = loss + recipe.ridge * out.weight.square().sum()
        torch.autograd.backward(loss)
        return float(loss.detach())

    solver.step(closure)
